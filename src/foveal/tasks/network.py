"""Networks of timm by name, for every task: made, told their image size, with errors that are one sentence."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import timm
import torch
from torch import nn

from foveal.errors import FovealError
from foveal.tasks.recipe import BaseRecipe
from foveal.types import Size

Kind = TypeVar("Kind", bound=BaseRecipe)
Made = TypeVar("Made", bound=nn.Module)


def create_network(
    name: str, num_classes: int | None, size: Size | None, args: dict[str, Any] | None = None, pretrained: bool = False
) -> nn.Module:
    """``timm.create_model`` for images of (height, width) pixels; None keeps what the released weights have.

    Raises:
        FovealError: no such model, arguments that do not suit it, or released weights that cannot be fetched.
    """
    settings = dict(args or {}) if num_classes is None else {**(args or {}), "num_classes": num_classes}
    try:
        model = timm.create_model(name, pretrained=pretrained, **settings)
    except (ValueError, TypeError, RuntimeError) as error:
        raise FovealError(f"The model {name} cannot be made: {first_sentence(error)}.") from error
    except OSError as error:
        raise FovealError(
            f"The released weights of {name} cannot be fetched ({first_sentence(error)}): "
            "check the connection, or download the file elsewhere and pass it as --checkpoint."
        ) from error
    if size is not None:
        set_input_size(model, size)
    return model


def create_by_recipe(recipe: Kind, make: Callable[[Kind], Made]) -> tuple[Kind, Made]:
    """Return the recipe as it is run, without drop path if the network has none, and what ``make`` creates from it.

    Raises:
        FovealError: what ``make`` raises for any other reason.
    """
    try:
        return recipe, make(recipe)
    except FovealError as error:
        # A TypeError means an argument that the network does not take: it is drop path if all is well without it.
        if not (recipe.drop_path and isinstance(error.__cause__, TypeError)):
            raise
        without = replace(recipe, drop_path=0.0)
        try:
            return without, make(without)
        except FovealError:
            raise error from error.__cause__


def set_input_size(model: nn.Module, size: Size, pool_size: int | None = None) -> None:
    """Tell a model that cares which size its images have, and which pool size its attention takes (None: its own).

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
    """The accelerator of this machine, or its CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def first_sentence(error: Exception) -> str:
    """What an error of timm or PyTorch says first, without its full stop."""
    first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return first_line.split(". ")[0].rstrip(".")
