"""Indices of stages, blocks and queries, from 0 as in ``net.stages[2].blocks[0]``, with their checks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from foveal.errors import FovealError
from foveal.models.folded.parts import InferenceOnly
from foveal.models.pyramid import Pyramid
from foveal.types import Size


def refuse_optimised(net: nn.Module) -> None:
    """Raise FovealError if the network was folded by ``foveal.optimize``: its blocks no longer hold the layers to see.

    Quantised networks are folded too.
    """
    if any(isinstance(module, InferenceOnly) for module in net.modules()):
        raise FovealError(
            "This network was folded for inference: pass the network that it was made from, before foveal.optimize "
            "or foveal.quantize."
        )


def chosen_stages(net: Pyramid, stages: Sequence[int] | None) -> list[int]:
    """Return the stages asked for in ascending order, all of them for None; negative ones count from the end."""
    count = len(net.stages)
    asked = range(count) if stages is None else stages
    for stage in asked:
        if not -count <= stage < count:
            raise FovealError(f"There is no stages[{stage}]: this network has stages[0] to stages[{count - 1}].")
    if not asked:
        raise FovealError("No stage was chosen: name at least one, or None for all.")
    return sorted({stage % count for stage in asked})


def strides_of(net: Pyramid) -> list[int]:
    """Return the pixels of the image from one position to the next, for every stage."""
    return [info["reduction"] for info in net.feature_info[: len(net.stages)]]


def block_key(watched: Sequence[tuple[int, int]], stages: int, stage: int, block: int) -> tuple[int, int]:
    """Return (stage, block) with both indices from 0, for indices that may be negative.

    Args:
        watched: the (stage, block) of all watched blocks.
        stages: number of stages of the network.
        stage, block: negative indices count from the end.

    Raises:
        FovealError: the block was not watched.
    """
    key = stage % stages if -stages <= stage < 0 else stage
    count = sum(of_stage == key for of_stage, _ in watched)
    if not count:
        names = ", ".join(f"stages[{i}]" for i in dict.fromkeys(i for i, _ in watched))
        raise FovealError(f"stages[{stage}] was not watched: choose one of {names}.")
    if not -count <= block < count:
        raise FovealError(f"stages[{stage}] has no blocks[{block}]: its blocks are 0 to {count - 1}.")
    return key, block % count


def query_position(query: tuple[int, int] | None, size: Size) -> tuple[int, int]:
    """Return the query's (row, column) on a token map of ``size``; the centre for None."""
    height, width = size
    if query is None:
        return height // 2, width // 2
    row, column = query
    if not (0 <= row < height and 0 <= column < width):
        raise FovealError(
            f"The query ({row}, {column}) lies outside the token map of {height} x {width}: "
            f"give a row of 0..{height - 1} and a column of 0..{width - 1}."
        )
    return row, column
