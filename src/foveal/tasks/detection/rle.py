"""Masks as COCO keeps them: run lengths down the columns, packed into a short string.

The functions come from faster-coco-eval, which is asked for when the first mask or average precision is wanted.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from torch import Tensor

from foveal.errors import FovealError


class Rle(TypedDict):
    """One mask: ``size`` is [height, width], ``counts`` the compressed run lengths as text, ready for JSON."""

    size: list[int]
    counts: str


def coco_tools() -> Any:
    """faster-coco-eval; its ``mask`` has the functions of run lengths.

    Raises:
        FovealError: it is not installed.
    """
    try:
        import faster_coco_eval
    except ModuleNotFoundError as missing:
        raise FovealError(
            "Average precision and COCO's masks need faster-coco-eval: install it with `pip install 'foveal[dense]'`."
        ) from missing
    return faster_coco_eval


def encode_masks(masks: Tensor) -> list[Rle]:
    """Each of the masks (N, H, W), bool or 0 and 1, on any device, as run lengths.

    They cross from the device one by one: N masks of a large image would take N times its size.
    """
    tools = coco_tools().mask
    runs = []
    for mask in masks:
        found = tools.encode(np.asfortranarray(mask.cpu().numpy().astype(np.uint8)))
        counts = found["counts"]
        runs.append(Rle(size=list(mask.shape), counts=counts if isinstance(counts, str) else counts.decode("ascii")))
    return runs


def decode_mask(rle: Mapping[str, Any]) -> np.ndarray:
    """(H, W) bool: the mask that these run lengths say."""
    return coco_tools().mask.decode(dict(rle)).astype(bool)


def mask_areas(runs: Sequence[Rle]) -> list[int]:
    """Pixels of each mask."""
    return [int(area) for area in coco_tools().mask.area([dict(run) for run in runs])] if runs else []
