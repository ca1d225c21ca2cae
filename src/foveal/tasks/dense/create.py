"""Heads on a backbone, created by name and from recipes; shared by detection and segmentation."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from importlib.util import find_spec
from typing import Any, ClassVar, TypeVar

from foveal.errors import FovealError
from foveal.near import did_you_mean
from foveal.tasks.dense.model import STAGES, DenseBackbone, DenseModel
from foveal.tasks.recipe import BaseRecipe
from foveal.tasks.registry import noun
from foveal.training.config import TrainConfig

Builder = Callable[..., Any]
R = TypeVar("R", bound="DenseRecipe")
FAMILIES = {"transnext": "TransNeXt", "transxnet": "TransXNet"}
#: Options that every head has, for its backbone: the parameters of ``DenseBackbone`` that they set.
BACKBONE_OPTIONS = {
    "pretrained_backbone": "pretrained",
    "drop_path": "drop_path",
    "frozen_stages": "frozen_stages",
    "position_bias": "position_bias",
    "reference_size": "reference_size",
    "backbone_args": "args",
}


@dataclass(frozen=True, kw_only=True)
class DenseRecipe(BaseRecipe):
    """A head on a backbone (``model``)."""

    create_head: ClassVar[Callable[..., DenseModel]]
    """``create_detector`` or ``create_segmenter``."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of ``create_detector`` or ``create_segmenter``, in plain types."""
    frozen_stages: int = 0
    """Number of backbone stages that keep the weights that they start from."""

    @classmethod
    def published(cls: type[R], data: str, head: str, title: str, model: str, schedule: str, **fields: Any) -> R:
        """Return a recipe of the papers: ``head``, called ``title``, on a released backbone, on "coco" or "ade20k"."""
        family, variant = model.split("_")
        backbone = f"{FAMILIES[family]}-{variant.capitalize()}"
        return cls(**{  # type: ignore[arg-type]
            "name": f"{data}.{head}_{model}", "summary": f"{title} with {backbone} on {data.upper()}{schedule}",
            noun(cls.kind): head, "model": model, "starts_from_weights": True, **fields,
        })  # fmt: skip

    @classmethod
    def on_shapes(cls: type[R], head: str, title: str, model: str, training: dict[str, Any], **fields: Any) -> R:
        """Return a recipe for a small model on generated images, trained from random weights."""
        family = model.split("_")[0]
        train = TrainConfig(**{
            "batch_size": 8, "min_lr": 1e-5, "warmup_steps": 50, "warmup_lr": 1e-5, "weight_decay": 0.05,
            "clip_norm": 1.0, "workers": 1, "log_every": 10, **training,
        })  # fmt: skip
        return cls(**{  # type: ignore[arg-type]
            "name": f"shapes.{head}_{model}", noun(cls.kind): head,
            "summary": f"{title} with our smallest {FAMILIES[family]}, on made images",
            "model": model, "train": train, "data": "shapes",
            "model_args": {"pretrain_size": 128} if family == "transnext" else {}, **fields,
        })  # fmt: skip

    def with_training(self: R, **settings: Any) -> R:
        recipe = super().with_training(**settings)
        stages = settings.get("freeze")
        return recipe if stages is None else replace(recipe, frozen_stages=STAGES if stages == "all" else stages)

    @property
    def head(self) -> str:
        """The name of the head."""
        return getattr(self, noun(self.kind))

    def create(self, num_classes: int, *, pretrained_backbone: bool = False) -> Any:
        """Create the detector or segmenter.

        Raises:
            FovealError: no such backbone, or options that do not suit it.
        """
        return type(self).create_head(
            self.head,
            self.model,
            num_classes,
            pretrained_backbone=pretrained_backbone,
            drop_path=self.drop_path,
            frozen_stages=self.frozen_stages,
            backbone_args=self.model_args,
            **self.options,
        )


def find_head(
    kind: str, name: str, builders: Mapping[str, str], backbone: str, num_classes: int, options: dict[str, Any]
) -> tuple[Builder, Callable[..., DenseBackbone]]:
    """Return the builder of the head ``name``, with its settings filled in, and a function that creates the backbone;
    see ``find_builder``. ``options`` are those of the backbone and those of the head."""
    own = {option: value for option, value in options.items() if option not in BACKBONE_OPTIONS}
    shared = {BACKBONE_OPTIONS[option]: value for option, value in options.items() if option in BACKBONE_OPTIONS}
    return find_builder(kind, name, builders, num_classes, own), partial(DenseBackbone, backbone, **shared)


def find_builder(
    kind: str, name: str, builders: Mapping[str, str], num_classes: int, options: dict[str, Any]
) -> Builder:
    """Return ``build`` of the module that defines the head ``name``, with its ``settings`` filled in.

    Such a module has a frozen dataclass ``Settings``, whose fields are the head's options, and ``build(make_backbone,
    num_classes, images, settings)`` for a detector or ``build(backbone, num_classes, settings)`` for a segmenter.
    ``make_backbone`` is called with ``stages``, those whose maps are needed; a segmenter's backbone has all four.
    ``num_classes`` is without the background of a detector, ``images`` the preprocessing.

    Args:
        kind: "detector" or "segmenter", for error messages.
        name: a key of ``builders``.
        builders: module of each head, imported when the head is created.
        num_classes: checked to be at least 1.
        options: values of ``Settings``; missing ones keep their defaults.

    Raises:
        FovealError: unknown head or option, ``num_classes`` below 1, or invalid settings.
    """
    if name not in builders:
        near = did_you_mean(name, builders, most=1)
        raise FovealError(f"There is no {kind} {name!r}{near}: choose one of {', '.join(builders)}.")
    if num_classes < 1:
        raise FovealError(f"num_classes must be at least 1, not {num_classes}.")
    module = importlib.import_module(builders[name])
    allowed = [option.name for option in fields(module.Settings)]
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        near = did_you_mean(unknown[0], allowed, most=1)
        raise FovealError(f"{name} has no option {unknown[0]}{near}: its options are {', '.join(allowed)}.")
    return partial(module.build, settings=module.Settings(**options))


def require_packages(head: str, *packages: str) -> None:
    """Check that the packages that ``head`` is built on are installed: ``transformers``, ``scipy``.

    Raises:
        FovealError: one of them is not.
    """
    for package in packages:
        if find_spec(package) is None:
            name = {"scipy": "SciPy"}.get(package, package)
            raise FovealError(f"{head} needs {name}: install it with `pip install 'foveal[dense]'`.")
