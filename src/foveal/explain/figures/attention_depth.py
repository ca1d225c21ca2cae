"""A paper's figure of attention by depth: foveal share, entropy and distance of every block and head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from foveal.explain.figures.light import LABEL, titles
from foveal.plotting import COLOURS, MUTED, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from foveal.explain.attention_depth import BlockProfile

_PANELS = (
    ("foveal_share", 100, "foveal share (%)"),
    ("relative_entropy", 100, "entropy\n(% of that of equal weights)"),
    ("distance", 1, "mean distance\n(pixels of the image)"),
)
_SPREAD = 0.28  # of the heads around their block, in blocks: equal values do not hide each other


def depth_figure(profile: Sequence[BlockProfile], title: str, caption: str) -> Figure:
    """Draw three panels over the blocks: a small dot for each head, a line through the mean over heads.

    Stages are separated by lines. Where all tokens attend to all there is no window, and no foveal share is drawn.

    Args:
        profile: the result of ``depth_profile`` or ``mean_profile``.
        title: a few words.
        caption: the model, its weights, the images and the settings.

    Raises:
        FovealError: matplotlib is not installed.
    """
    figure = new_figure(max(4.8, 2.2 + 0.2 * len(profile)), 6.2)
    panels = figure.subplots(len(_PANELS), 1, sharex=True)
    for axes, (name, factor, label), colour in zip(panels, _PANELS, COLOURS, strict=False):
        _panel(axes, profile, [factor * getattr(block, name) for block in profile], name == "foveal_share", colour)
        axes.set_ylabel(label, fontsize=LABEL)
    panels[0].set_ylim(-3, 103)
    panels[1].set_ylim(-3, 103)
    panels[2].set_ylim(bottom=0)
    _stage_names(panels[0], profile)
    panels[-1].set_xlabel("block", fontsize=LABEL)
    step = max(1, len(profile) // 20)
    panels[-1].set_xticks(range(1, len(profile) + 1, step))
    figure.align_ylabels(panels)
    titles(figure, title, caption)
    return figure


def _panel(axes: Axes, profile: Sequence[BlockProfile], values: list[np.ndarray], windowed: bool, colour: str) -> None:
    plain(axes, "y")
    for first, last in _stages(profile):
        if first:
            axes.axvline(first + 0.5, color=MUTED, linewidth=0.7, linestyle=(0, (4, 3)))
        if windowed and not profile[first].window:
            axes.axvspan(first + 0.5, last + 0.5, facecolor="#eeeeee", edgecolor="none")
            axes.text(
                (first + last) / 2 + 0.5, 50, "no window", rotation=90, ha="center", va="center", fontsize=LABEL - 1
            )
            continue
        blocks = range(first, last)
        for block in blocks:
            heads = len(values[block])
            at = block + 1 + _SPREAD * (np.linspace(-1, 1, heads) if heads > 1 else np.zeros(1))
            axes.plot(at, values[block], "o", markersize=2.6, color=colour, alpha=0.45, markeredgewidth=0)
        means = [values[block].mean() for block in blocks]
        axes.plot(
            [b + 1 for b in blocks], means, "-o", color=colour, linewidth=1.4, markersize=4.5, markeredgecolor="white"
        )
    axes.set_xlim(0.5, len(profile) + 0.5)


def _stages(profile: Sequence[BlockProfile]) -> list[tuple[int, int]]:
    """Return the first block and the end of every stage."""
    starts = [i for i, block in enumerate(profile) if i == 0 or block.stage != profile[i - 1].stage]
    return list(zip(starts, [*starts[1:], len(profile)], strict=True))


def _stage_names(axes: Axes, profile: Sequence[BlockProfile]) -> None:
    """Name the stages above the panel: in words where there is room, else by the number alone."""
    room = all(last - first > 1 for first, last in _stages(profile)) and len(profile) < 24
    for first, last in _stages(profile):
        number = profile[first].stage + 1
        text = f"stage {number}" if room or last - first > 2 else str(number)
        axes.annotate(
            text, ((first + last) / 2 + 0.5, 1.02), xycoords=("data", "axes fraction"), ha="center", fontsize=LABEL
        )  # fmt: skip
