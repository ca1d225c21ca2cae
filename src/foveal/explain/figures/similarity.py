"""Figure 7 of the TransNeXt paper: how similar one query is to all fine keys and to all pooled keys, head by head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from foveal.explain.figures.light import LABEL, Canvas, colour_bar, percent, titles
from foveal.explain.token_grid import mean_among_tokens
from foveal.plotting import matplotlib, new_figure
from foveal.wording import TIMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from foveal.explain.attention import AttentionMaps

RANGE = (1, 99)  # percentiles of the darkest and lightest colour: an outlier must not dim all other keys
_PANEL = 1.4  # inches


def similarity_figure(photo: np.ndarray, maps: AttentionMaps, title: str, caption: str, heads: Sequence[int]) -> Figure:
    """Draw one query: the photograph with its mark, then for each head the similarity of both paths.

    Both paths of a head share one colour scale, because their similarities compete in one softmax. Scales of different
    heads are relative, from the least to the most similar key. A block without a window has one row.

    Args:
        photo: (H, W, 3) uint8, at any resolution, of the image that the network saw.
        maps: the attention of that image.
        title: a few words.
        caption: the model, its weights, the settings, and the credit of the photograph.
        heads: which heads, counted from 0.

    Raises:
        FovealError: matplotlib is not installed.
    """
    canvas, rows = Canvas(photo, maps.size, maps.stride, maps.image_size), paths(maps)
    first, others = (1 + 0.6 * (len(rows) > 1)) * _PANEL, len(heads) * (_PANEL + 0.04) + 1.1
    tall = max(len(rows) * (_PANEL * canvas.aspect + 0.06) + 0.2, first * canvas.aspect + 0.3)
    figure = new_figure(first + others, tall + 0.85)
    left, right = cast(Any, figure.subfigures(1, 2, width_ratios=[first, others]))
    _photograph(left.subplots(), canvas, maps)
    grid = right.subplots(len(rows), len(heads), squeeze=False)
    for line, (name, values) in zip(grid, rows.items(), strict=True):
        for axes, head in zip(line, heads, strict=True):
            canvas.heat(axes, values[head], head_scale(maps, head))
            canvas.mark(axes, maps.query, maps.window)
        line[0].set_ylabel(name, fontsize=LABEL)
    for axes, head in zip(grid[0], heads, strict=True):
        share = f"\n{percent(100 * float(maps.foveal_share[head]))} in the window" if maps.window else ""
        axes.set_title(f"head {head + 1}{share}", fontsize=LABEL)
    relative = matplotlib("colors").Normalize(0, 1)
    colour_bar(right, grid.flat, relative, "similarity, from the head's least to its most", on_photo=True, aspect=18)
    titles(figure, title, caption)
    return figure


def paths(maps: AttentionMaps) -> dict[str, np.ndarray]:
    """Return (heads, H, W) by the name of the path: the similarity of every token, or of the pooled keys over it."""
    if not maps.window:
        return {"all tokens": maps.foveal}
    return {"foveal": maps.foveal, "peripheral": mean_among_tokens(maps.peripheral, maps.size)}


def head_scale(maps: AttentionMaps, head: int) -> Any:
    """Return the colour scale of a head, which both of its paths share."""
    ends = np.percentile(maps.foveal[head], RANGE), np.percentile(maps.peripheral[head], RANGE)
    low, high = float(np.min(ends)), float(np.max(ends))
    return matplotlib("colors").Normalize(low, max(high, low + 1e-12), clip=True)


def _photograph(axes: Any, canvas: Canvas, maps: AttentionMaps) -> None:
    canvas.photograph(axes)
    canvas.mark(axes, maps.query, maps.window)
    around = f", {maps.window}{TIMES}{maps.window} window" if maps.window else ""
    axes.set_title(f"query ({maps.query[0]}, {maps.query[1]}){around}", fontsize=LABEL)
    axes.set_xlabel(f"{maps.size[0]}{TIMES}{maps.size[1]} tokens", fontsize=LABEL)
    axes.set_anchor("N")
