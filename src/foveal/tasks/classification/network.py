"""Load weights into classifiers, and restore classifiers from files with their classes and preprocessing."""

from dataclasses import dataclass, replace
from typing import Any, cast

import timm
from timm.data import ImageNetInfo, resolve_model_data_config
from timm.models import PretrainedCfg
from torch import nn

from foveal.errors import FovealError
from foveal.models.load_report import LoadReport
from foveal.models.loading import compare, load_checkpoint
from foveal.models.pyramid import Pyramid
from foveal.models.unwrapping import peeled
from foveal.models.weights_file import WeightsFile, WeightsSource, errors_name
from foveal.tasks.classification.preprocessing import Preprocessing
from foveal.tasks.classification.recipe import Recipe
from foveal.tasks.classification.recipes import PREFIXES
from foveal.tasks.held_out import HeldOut
from foveal.tasks.network import create_network, set_input_size
from foveal.tasks.registry import check_kind
from foveal.types import Size


@dataclass(frozen=True)
class Classifier:
    """A network with its classes and preprocessing."""

    name: str
    model: nn.Module
    classes: list[str]
    """One name per logit, in order."""
    fit: Preprocessing
    trained_here: bool
    """Whether the file is of ``foveal train`` and names its classes."""
    held_out: HeldOut | None = None
    """The validation images that were drawn from those that it was trained on, if they had no split."""
    multi_label: bool = False
    """Whether each class has a probability of its own, the sigmoid of its logit."""


def load_weights(model: nn.Module, path: WeightsSource, *, new_classifier: bool = False) -> LoadReport:
    """Load weights, whole or not at all; with ``new_classifier`` a head for other classes keeps its initial values.

    Raises:
        FovealError: the file is missing, broken, or does not fit.
    """
    file = WeightsFile.open(path)
    _check_model(model, file)
    if isinstance(model, Pyramid):
        return load_checkpoint(model, file, new_classifier=new_classifier)
    names = model.state_dict().keys()
    with errors_name(file.path):
        weights = peeled(file.state, lambda state: not names.isdisjoint(state))
    report = compare(weights, model)
    if new_classifier:
        report = _with_own_classifier(report, model)
    missing = [name for name in report.missing if not name.endswith(".num_batches_tracked")]  # missing in old files
    if missing or report.unexpected or report.misshaped:
        raise FovealError(
            f"{file.path} does not fit this {type(model).__name__} ({report}): pass the --model that it was trained as."
        )
    model.load_state_dict({name: weights[name] for name in report.loaded}, strict=False)
    return replace(report, missing=(), left_out=len(file.state) - len(report.loaded))


def released_start(model: nn.Module) -> LoadReport:
    """Return which tensors of a model that timm created with released weights are of these: all but the classifier's,
    if that is for another number of classes."""
    other = cast(dict[str, Any], model.pretrained_cfg)["num_classes"] != model.num_classes
    heads = classifier_prefixes(model) if other else ()
    new = tuple(name for name in model.state_dict() if heads and name.startswith(heads))
    return LoadReport(loaded=tuple(name for name in model.state_dict() if name not in new), new=new)


def restore(
    path: WeightsSource,
    name: str | None = None,
    *,
    size: Size | None = None,
    pool_size: int | None = None,
    recipe: Recipe | None = None,
) -> Classifier:
    """Return the classifier in a file of ``foveal train``, or in another file that ``name`` or ``recipe`` describes.

    Args:
        name: the model, if it differs from what the file or the recipe says.
        size: (height, width) of the images; None for the training size.
        pool_size: TransNeXt's linear mode with this pool size; None for the model's own mode.
        recipe: model and preprocessing of a file without metadata.

    Raises:
        FovealError: the file is missing, broken, not described, or does not fit.
    """
    file = WeightsFile.open(path)
    card = file.metadata
    if card is not None:
        check_kind(card, file.path, Recipe.kind)
        classifier = _described_by_card(card, name)
    elif recipe is not None and name in (None, recipe.model):
        classifier = _described_by_recipe(recipe)
    elif name is not None:
        classifier = described_by_timm(name)
    else:
        raise FovealError(f"{file.path} does not say which model it holds: pass --model NAME.")
    if size is not None:
        classifier = replace(classifier, fit=replace(classifier.fit, size=size))
    set_input_size(classifier.model, classifier.fit.size, pool_size)
    load_weights(classifier.model, file)
    return classifier


def fetch(recipe: Recipe, name: str | None = None) -> Classifier:
    """Return a classifier with its released weights, downloaded from their public home; its name has their tag.

    Args:
        recipe: the model, size and preprocessing.
        name: another model, with the preprocessing of its own configuration.

    Raises:
        FovealError: the model has no released weights, or they cannot be fetched.
    """
    own = name in (None, recipe.model) and not recipe.name.startswith(PREFIXES)
    weights = released_name(name or recipe.model, recipe.fit.size)
    if weights is None:
        raise FovealError(f"{name or recipe.model} has no released weights: pass --checkpoint FILE.")
    model = create_network(weights, None, None, recipe.model_args if own else None, pretrained=True)
    fit = recipe.fit if own else _released_preprocessing(model)
    set_input_size(model, fit.size)
    return Classifier(weights, model, class_names(model), fit, trained_here=False)


def released_name(name: str, size: Size) -> str | None:
    """Return timm's name of a model's released weights ("transnext_base.in1k_384"): those for images of ``size``, else
    the first; None if there are none."""
    if "." in name:
        return name if name in timm.list_pretrained(name) else None
    released = timm.list_pretrained(f"{name}.*")
    first = f"{name}.{_configuration(name).tag}"
    by_choice = sorted(released, key=lambda one: (_configuration(one).input_size[1:] != tuple(size), one != first))
    return next(iter(by_choice), None)


def _configuration(name: str) -> PretrainedCfg:
    return cast(PretrainedCfg, timm.get_pretrained_cfg(name))


def _described_by_card(card: dict[str, Any], name: str | None) -> Classifier:
    fit = Preprocessing(**card["preprocessing"])
    args = card["model_args"] if name in (None, card["model"]) else {}
    model = create_network(name or card["model"], len(card["classes"]), fit.size, args)
    multi_label = card.get("multi_label", False)
    return Classifier(name or card["model"], model, card["classes"], fit, True, HeldOut.of(card), multi_label)


def _described_by_recipe(recipe: Recipe) -> Classifier:
    """Return a classifier with the recipe's preprocessing and the classes of the released weights."""
    model = create_network(recipe.model, None, None, recipe.model_args)
    return Classifier(recipe.model, model, class_names(model), recipe.fit, trained_here=False)


def described_by_timm(name: str, *, pretrained: bool = False) -> Classifier:
    """Return a classifier with the preprocessing and classes of timm's configuration, with random or released weights.

    Raises:
        FovealError: there is no such model, or its weights cannot be fetched.
    """
    model = create_network(name, None, None, pretrained=pretrained)
    return Classifier(name, model, class_names(model), _released_preprocessing(model), trained_here=False)


def _released_preprocessing(model: nn.Module) -> Preprocessing:
    """Return the preprocessing of timm's configuration; the papers' rule decides between crop and whole image."""
    data = resolve_model_data_config(model)
    squash = data["crop_mode"] == "squash"
    return Preprocessing(
        size=data["input_size"][1:],
        crop=0.875 if squash else data["crop_pct"],
        interpolation=data["interpolation"],
        mean=data["mean"],
        std=data["std"],
    )


def class_names(model: nn.Module) -> list[str]:
    """Return ImageNet's names for 1,000 classes, in the order of its synsets; numbers for any other count."""
    count = cast(int, model.num_classes)
    if count == 1000:
        imagenet = ImageNetInfo("imagenet-1k")
        return [imagenet.index_to_description(index) for index in range(count)]
    return [str(index) for index in range(count)]


def _check_model(model: nn.Module, file: WeightsFile) -> None:
    """Raise FovealError if the file's metadata names another model; without metadata, the weights decide later."""
    card, name = file.metadata, cast(dict[str, Any], model.pretrained_cfg)["architecture"]
    if card is not None:
        check_kind(card, file.path, Recipe.kind)
    if card is not None and card["model"].split(".")[0] != name:  # a timm name is architecture.tag
        raise FovealError(f"{file.path} holds a {card['model']}, not a {name}: pass --model {card['model']}.")


def classifier_prefixes(model: nn.Module) -> tuple[str, ...]:
    """Return the prefixes of the names of a model's classifiers; distilled ones have two."""
    names = cast(dict[str, Any], model.pretrained_cfg)["classifier"] or ()
    return tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))


def _with_own_classifier(report: LoadReport, model: nn.Module) -> LoadReport:
    """Return the report with the classifiers new if any tensor of them does not fit."""
    heads = classifier_prefixes(model)
    if not heads or not any(name.startswith(heads) for name in report.misfits):
        return report
    return LoadReport(
        loaded=tuple(name for name in report.loaded if not name.startswith(heads)),
        missing=tuple(name for name in report.missing if not name.startswith(heads)),
        unexpected=tuple(name for name in report.unexpected if not name.startswith(heads)),
        misshaped=tuple(found for found in report.misshaped if not found[0].startswith(heads)),
        new=tuple(name for name in model.state_dict() if name.startswith(heads)),
    )
