"""What all our charts share: matplotlib imported when one is drawn, colours, plain axes, files that appear whole."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from foveal.errors import FovealError
from foveal.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Distinct for colour-blind readers as well (Okabe and Ito), on a light ground.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#555555")
GRID, MUTED = "#dddddd", "#555555"


def matplotlib(part: str) -> Any:
    """A module of matplotlib, "figure" of "matplotlib.figure"; imported here because only pictures need it.

    Raises:
        FovealError: it is not installed.
    """
    try:
        return importlib.import_module(f"matplotlib.{part}")
    except ModuleNotFoundError as missing:
        raise FovealError('Drawing needs matplotlib: install it with `pip install "foveal[train]"`.') from missing


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in inches, outside pyplot's registry: it goes when nobody holds it."""
    return matplotlib("figure").Figure(figsize=(width, height), layout="constrained")


def plain(axes: Axes, grid: Literal["x", "y", "both"]) -> None:
    """Grid lines behind the data, no ticks, no frame at the top and right."""
    axes.grid(axis=grid, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def save(figure: Figure, path: Path, form: str) -> None:
    """Write the figure in a format ("png"), as all charts are written."""
    figure.savefig(path, format=form, dpi=150)


def save_whole(figure: Figure, path: Path) -> None:
    """Write beside the file, in the format of its ending, and move there when whole.

    Raises:
        FovealError: it cannot be written; what was there before is untouched.
    """
    with atomic_file(path) as part:
        save(figure, part, path.suffix[1:])
