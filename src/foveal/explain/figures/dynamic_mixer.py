"""A paper's figures of TransXNet's token mixer: dynamic kernels, OSRA's attention, and the energy of its branches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from foveal.explain.figures.light import (
    AMOUNTS,
    LABEL,
    SIGNED,
    Canvas,
    bare,
    colour_bar,
    logarithmic,
    symmetric,
    titles,
)
from foveal.plotting import matplotlib, new_figure
from foveal.wording import TIMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from foveal.explain.dynamic_mixer import BranchEnergy, DynamicKernels, ReducedAttention

_KERNEL, _PANEL = 0.78, 1.5  # inches
_MOST_CHANNELS, _MOST_HEADS = 10, 8


def kernels_figure(
    kernels: DynamicKernels, title: str, caption: str, channels: Sequence[int] | None = None
) -> Figure:  # fmt: skip
    """Draw the kernels that some channels got for one image, and below them the weights of the learned kernels.

    All kernels share one scale around 0, and all group weights one from 0 to 1: where two groups are alike, both weigh
    a half.

    Args:
        kernels: of one block and image.
        title: a few words.
        caption: the model, its weights, the image and the settings.
        channels: which channels of the branch, counted from 0; None takes ten evenly spaced ones.

    Raises:
        FovealError: matplotlib is not installed.
    """
    count, groups = len(kernels.kernels), len(kernels.group_weights)
    if channels is None:
        channels = np.unique(np.linspace(0, count - 1, _MOST_CHANNELS).round().astype(int)).tolist()
    figure = new_figure(len(channels) * _KERNEL + 1.9, (groups + 1) * (_KERNEL + 0.06) + 1.25)
    figure.set_layout_engine("compressed")
    grid = figure.subplots(groups + 1, len(channels), squeeze=False)
    signed = symmetric(kernels.kernels[list(channels)])
    shares = matplotlib("colors").Normalize(0, 1)
    names = ["kernel", *(f"group {group + 1}" for group in range(groups))]
    for line, name, maps in zip(grid, names, [kernels.kernels, *kernels.group_weights], strict=True):
        line[0].set_ylabel(name, fontsize=LABEL)
        for axes, channel in zip(line, channels, strict=True):
            kernel = maps is kernels.kernels
            axes.imshow(maps[channel], cmap=SIGNED if kernel else AMOUNTS, norm=signed if kernel else shares)
            bare(axes)
    for axes, channel in zip(grid[0], channels, strict=True):
        axes.set_title(str(channel + 1), fontsize=LABEL)
    colour_bar(figure, grid[0], signed, "weight", on_photo=False, aspect=7)
    colour_bar(figure, grid[1:].flat, shares, "share of the group", on_photo=False, aspect=7 * groups)
    place = f"Stage {kernels.stage + 1}, block {kernels.block + 1}, channels as numbered, of {count}."
    titles(figure, title, f"{place} {caption}")
    return figure


def reduced_attention_figure(
    photo: np.ndarray, attention: ReducedAttention, title: str, caption: str, heads: Sequence[int] | None = None
) -> Figure:
    """Draw the photograph with one query, and OSRA's attention of each head on it, in percent for each key.

    Args:
        photo: (H, W, 3) uint8, at any resolution, of the image that the network saw.
        attention: of that image.
        title: a few words.
        caption: the model, its weights, the settings, and the credit of the photograph.
        heads: which heads, counted from 0; None takes the first eight.

    Raises:
        FovealError: matplotlib is not installed.
    """
    count, rows, columns = attention.weights.shape
    chosen = list(range(min(count, _MOST_HEADS)) if heads is None else heads)
    stride = attention.stride * attention.reduction
    canvas = Canvas(photo, (rows, columns), stride, attention.image_size)
    figure, (first, *others) = _strip(1 + len(chosen), canvas.aspect)
    canvas.photograph(first)
    queries = Canvas(photo, (0, 0), attention.stride, attention.image_size)
    queries.mark(first, attention.query, 0)
    first.set_title(f"query ({attention.query[0]}, {attention.query[1]})", fontsize=LABEL)
    first.set_xlabel(f"stage {attention.stage + 1}, block {attention.block + 1}", fontsize=LABEL)
    percent = 100 * attention.weights[chosen]
    norm = logarithmic(percent)
    for axes, head, cells in zip(others, chosen, percent, strict=True):
        canvas.heat(axes, cells, norm)
        queries.mark(axes, attention.query, 0)
        axes.set_title(f"head {head + 1}", fontsize=LABEL)
    others[0].set_xlabel(f"{rows}{TIMES}{columns} keys", fontsize=LABEL)
    bar = dict(extend="min", aspect=12 * canvas.aspect)
    colour_bar(figure, others, norm, "attention\nper key (%)", on_photo=True, **bar)
    titles(figure, title, caption)
    return figure


def energy_figure(photo: np.ndarray, energy: BranchEnergy, title: str, caption: str) -> Figure:
    """Draw the photograph, then the energy of IDConv, OSRA and the whole mixer, each with its own scale from 0.

    Args:
        photo: (H, W, 3) uint8, at any resolution, of the image that the network saw.
        energy: of that image.
        title: a few words.
        caption: the model, its weights, the settings, and the credit of the photograph.

    Raises:
        FovealError: matplotlib is not installed.
    """
    rows, columns = energy.local.shape
    canvas = Canvas(photo, (rows, columns), energy.stride, energy.image_size)
    figure, (first, *others) = _strip(4, canvas.aspect, extra=0.62)
    canvas.photograph(first)
    first.set_xlabel(f"stage {energy.stage + 1}, block {energy.block + 1}: {rows}{TIMES}{columns}", fontsize=LABEL)
    maps = {"IDConv": energy.local, "OSRA": energy.distant, "after STE": energy.enhanced}
    for axes, (name, cells) in zip(others, maps.items(), strict=True):
        norm = matplotlib("colors").Normalize(0, float(cells.max()))
        canvas.heat(axes, cells, norm)
        axes.set_title(name, fontsize=LABEL)
        label = "mean square" if axes is others[-1] else ""
        colour_bar(figure, [axes], norm, label, on_photo=True, fraction=0.07, aspect=14 * canvas.aspect)
    titles(figure, title, caption)
    return figure


def _strip(panels: int, aspect: float, extra: float = 0.0) -> tuple[Figure, Any]:
    """Return a figure of one line of panels with the proportions of the image, and their axes."""
    figure = new_figure(max(panels * (_PANEL + 0.06 + extra) + 0.9, 5.0), _PANEL * aspect + 1.35)
    figure.set_layout_engine("compressed")
    return figure, figure.subplots(1, panels)
