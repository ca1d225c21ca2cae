"""Create timm's networks by name and set their image size, with errors of one sentence."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import timm
import torch
from torch import nn

from foveal.errors import FovealError
from foveal.models.fetching import fetching
from foveal.models.names import check_model
from foveal.tasks.recipe import BaseRecipe
from foveal.types import Size
from foveal.wording import first_sentence

Kind = TypeVar("Kind", bound=BaseRecipe)
Made = TypeVar("Made", bound=nn.Module)


def create_network(
    name: str, num_classes: int | None, size: Size | None, args: dict[str, Any] | None = None, pretrained: bool = False
) -> nn.Module:
    """Create a network for images of ``size``; None keeps the classes or size of the released weights.

    Raises:
        FovealError: no such model, arguments that do not suit it, or released weights that cannot be fetched.
    """
    check_model(name)
    settings = dict(args or {}) if num_classes is None else {**(args or {}), "num_classes": num_classes}
    try:
        with fetching(name) if pretrained else contextlib.nullcontext():
            model = timm.create_model(name, pretrained=pretrained, **settings)
    except (ValueError, TypeError, RuntimeError) as error:
        raise FovealError(f"The model {name} cannot be created: {first_sentence(error)}.") from error
    if size is not None:
        set_input_size(model, size)
    return model


def check_released(name: str, model: nn.Module) -> None:
    """Raise FovealError if no released weights are known for the network called ``name`` in ``model``."""
    known: Any = next((module.pretrained_cfg for module in model.modules() if hasattr(module, "pretrained_cfg")), {})
    if not any(known.get(place) for place in ("url", "file", "hf_hub_id", "state_dict")):
        raise FovealError(f"{name} has no released weights: pass --checkpoint FILE.")


def lacks_released_weights(name: str) -> bool:
    """Return whether timm has a model of this name without released weights."""
    return timm.is_model(name) and not timm.models.is_model_pretrained(name)


def create_by_recipe(recipe: Kind, make: Callable[[Kind], Made]) -> tuple[Kind, Made]:
    """Return the recipe as it is run, without drop path if the network has none, and what ``make`` creates from it.

    Raises:
        FovealError: what ``make`` raises for any other reason.
    """
    try:
        return recipe, make(recipe)
    except FovealError as error:
        # A TypeError means an unknown argument: drop path, if the network can be created without it.
        if not (recipe.drop_path and isinstance(error.__cause__, TypeError)):
            raise
        without = replace(recipe, drop_path=0.0)
        try:
            return without, make(without)
        except FovealError:
            raise error from error.__cause__


def set_input_size(model: nn.Module, size: Size, pool_size: int | None = None) -> None:
    """Set the image size and pool size (None: its own) of a model that depends on them.

    Raises:
        FovealError: a size or pool size that the model cannot take.
    """
    modes = {} if pool_size is None else {"pool_size": pool_size}
    if not hasattr(model, "set_input_size"):
        if modes:
            raise FovealError(f"{type(model).__name__} has no pool size: leave --pool-size out.")
        return
    try:
        model.set_input_size(size, **modes)  # type: ignore[operator]
    except (ValueError, TypeError) as error:
        raise FovealError(f"{type(model).__name__} cannot take these sizes: {first_sentence(error)}.") from error


def best_device() -> torch.device:
    """Return the accelerator of this machine, or its CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
