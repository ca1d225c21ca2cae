"""What ``create_detector`` and ``create_segmenter`` share: from names to a head's builder and its backbone."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from foveal.errors import FovealError

Builder = Callable[..., Any]


def find_builder(
    kind: str, name: str, builders: Mapping[str, str], num_classes: int, options: dict[str, Any]
) -> Builder:
    """``build`` of the module that makes the head ``name``, which takes these options.

    Args:
        kind: "detector" or "segmenter", for the sentence.
        builders: the module of each name, imported when asked for.

    Raises:
        FovealError: no such head, no classes, or options that it does not have.
    """
    if name not in builders:
        raise FovealError(f"There is no {kind} {name!r}: choose one of {', '.join(builders)}.")
    if num_classes < 1:
        raise FovealError(f"num_classes must be at least 1, not {num_classes}.")
    build: Builder = importlib.import_module(builders[name]).build
    allowed = build.__kwdefaults__ or {}
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise FovealError(f"{name} has no option {unknown[0]}: its options are {', '.join(allowed)}.")
    return build
