"""Which parameters of a classifier keep the weights that they start from (``--freeze``)."""

from typing import Any, cast

from torch import nn

from foveal.errors import FovealError
from foveal.tasks.classification.network import classifier_prefixes
from foveal.training.config import Freeze

FINEST = 4  # stride of the first stage; what comes before it is the stem


def freeze(model: nn.Module, stages: Freeze | None) -> None:
    """Freeze the first stages of a network of timm with its stem, or with "all" everything but the classifier.

    A stage is what computes the maps of one resolution, the first of which has a stride of 4. The training loop keeps
    frozen parts in evaluation mode (``training.frozen``).

    Raises:
        FovealError: the network has no stages, or fewer.
    """
    if not stages:
        return
    frozen = _all_but_classifier(model) if stages == "all" else _before_stage(model, stages)
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)


def _all_but_classifier(model: nn.Module) -> set[str]:
    heads = classifier_prefixes(model)
    names = {name for name, _ in model.named_parameters() if not (heads and name.startswith(heads))}
    if len(names) == len(list(model.parameters())):
        raise FovealError(
            f"{type(model).__name__} has no classifier of its own: pass --freeze with a number of stages."
        )
    return names


def _before_stage(model: nn.Module, count: int) -> set[str]:
    """Return the names of the parameters up to the end of stage number ``count``, from 1; they are registered in the
    order in which they are used."""
    ends = _ends_of_stages(model)
    if not ends:
        raise FovealError(
            f"{type(model).__name__} has no stages that follow each other: pass --freeze all, or leave it out."
        )
    if count > len(ends):
        raise FovealError(
            f"{type(model).__name__} has {len(ends)} stages, of which {count} cannot be frozen: pass --freeze with at "
            f"most {len(ends)}, or all."
        )
    return {name for name, _ in list(model.named_parameters())[: ends[count - 1]]}


def _ends_of_stages(model: nn.Module) -> list[int]:
    """Return the number of parameters up to the end of each stage; nothing if there are no stages."""
    known = getattr(model, "feature_info", None)
    infos = cast(list[dict[str, Any]], known if isinstance(known, list) else [])
    strides = [info["reduction"] for info in infos]
    if len(set(strides)) < len(strides) or strides != sorted(strides):
        return []
    names = [name for name, _ in model.named_parameters()]
    last = {info["module"]: _last_below(names, info["module"]) for info in infos if info["reduction"] >= FINEST}
    ends = [place for place in last.values() if place is not None]
    # Of networks with parallel branches the maps come last, after all branches.
    follow = len(ends) == len(last) > 1 and ends == sorted(set(ends)) and 2 * ends[0] < len(names)
    return ends if follow else []


def _last_below(names: list[str], module: str) -> int | None:
    """Return the number of names up to the last one in a module, or None if it has no parameter."""
    return max((place for place, name in enumerate(names, start=1) if name.startswith(f"{module}.")), default=None)
