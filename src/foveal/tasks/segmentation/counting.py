"""Multiply-adds and parameters of a segmenter, as the papers' tables tell them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from foveal.models import TransNeXt
from foveal.models.counting import Count
from foveal.tasks.dense.counting import count_dense
from foveal.tasks.segmentation.segmenter import Segmenter

aten = torch.ops.aten

# What fvcore counts for each element that comes out, beside all that ``Count.macs`` has.
_RESIZING = {
    aten.upsample_nearest2d.default: 1,
    aten.upsample_bilinear2d.default: 4,
    aten.grid_sampler_2d.default: 4,
}


def count_segmenter(segmenter: Segmenter, size: tuple[int, int] = (512, 512)) -> Count:
    """Count a segmenter's multiply-adds and parameters without running it; see ``count_dense``.

    Parameters are all of them; an auxiliary head, which only training has, does no multiply-adds.

    Returns:
        A Count. Its ``paper_macs`` follow the authors of the backbone. Those of TransXNet used MMSegmentation's
        ``get_flops`` (see ``count_dense``), which is taken for all other networks as well. Those of TransNeXt used
        fvcore (their repository's issue 11): it counts what ``macs`` has, and 4 for every element that bilinear
        resizing gives, be it of the head or of an interpolated position bias. The bias is resized twice in every
        block, also where the image has the reference size and nothing changes.
    """
    if not isinstance(segmenter.backbone.body, TransNeXt):
        return count_dense(segmenter, size)
    with _Resizing() as resizing:
        count = count_dense(segmenter, size)
    return replace(count, paper_macs=count.macs + resizing.macs)


class _Resizing(TorchDispatchMode):
    """Collects what fvcore counts for resizing."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in _RESIZING:
            self.macs += _RESIZING[func] * output.numel()
        return output
