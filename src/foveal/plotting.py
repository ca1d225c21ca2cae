"""What all charts share: matplotlib imported on first use, colours, plain axes, files written atomically."""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from foveal.errors import FovealError
from foveal.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Distinct for colour-blind readers as well (Okabe and Ito), on a light background.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#555555")
# Metadata of a file that does not hold its time or matplotlib's version, by its format.
_UNDATED = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
GRID, MUTED = "#dddddd", "#555555"


def matplotlib(part: str) -> Any:
    """Import and return a module of matplotlib: "figure" for ``matplotlib.figure``. Only charts need it.

    Raises:
        FovealError: matplotlib is not installed.
    """
    try:
        return importlib.import_module(f"matplotlib.{part}")
    except ModuleNotFoundError as missing:
        raise FovealError('Drawing needs matplotlib: install it with `pip install "foveal[train]"`.') from missing


def check_drawing() -> None:
    """Raise FovealError, before the work that ends in a picture, if matplotlib is not installed."""
    matplotlib("cm")


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, sizes in inches, outside pyplot's registry, so that it is freed when unreferenced."""
    return matplotlib("figure").Figure(figsize=(width, height), layout="constrained")


def plain(axes: Axes, grid: Literal["x", "y", "both"]) -> None:
    """Draw grid lines below the data, and remove ticks and the frame at the top and right."""
    axes.grid(axis=grid, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def whole_numbers(axis: Axis) -> None:
    """Label an axis with whole numbers only."""
    axis.set_major_locator(matplotlib("ticker").MaxNLocator("auto", integer=True))


def plain_numbers(axis: Axis) -> None:
    """Label an axis with decimal numbers in full, without a factor above the axis."""
    formatter = matplotlib("ticker").ScalarFormatter(useOffset=False)
    formatter.set_scientific(False)
    axis.set_major_formatter(formatter)


def plain_logarithms(axis: Axis) -> None:
    """Label a logarithmic axis with 1, 2, 5, 10."""
    ticker = matplotlib("ticker")
    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(ticker.NullLocator())
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))


def save(figure: Figure, path: Path, form: str) -> None:
    """Write the figure in a format such as "png", with the resolution of all charts."""
    figure.savefig(path, format=form, dpi=150)


def save_whole(figure: Figure, path: Path) -> None:
    """Write the figure atomically, in the format of the path's suffix.

    Raises:
        FovealError: it cannot be written; an existing file is unchanged.
    """
    with atomic_file(path) as part:
        save(figure, part, path.suffix[1:])


def save_reproducibly(figure: Figure, path: Path, dpi: int = 300) -> None:
    """Write a figure for print atomically: the same figure gives the same bytes on the same version of matplotlib.

    Text stays text in PDF files, and is drawn as shapes in SVG files, which then need no font.

    Args:
        figure: the figure.
        path: ends in .png, .svg or .pdf.
        dpi: pixels per inch of a PNG file.

    Raises:
        FovealError: another ending, or it cannot be written; an existing file is unchanged.
    """
    form = path.suffix[1:].lower()
    if form not in _UNDATED:
        raise FovealError(f"{path.name} must end in .png, .svg or .pdf: choose another name.")
    with atomic_file(path) as part:
        part.write_bytes(encoded_reproducibly(figure, form, dpi))


def encoded_reproducibly(figure: Figure, form: str, dpi: int = 300) -> bytes:
    """Return the content of the file that ``save_reproducibly`` writes; ``form`` is "png", "svg" or "pdf"."""
    _settle(figure)
    settings = {"svg.hashsalt": "foveal", "svg.fonttype": "path", "pdf.fonttype": 42}
    file = io.BytesIO()
    with matplotlib("style").context(settings):
        figure.savefig(file, format=form, dpi=dpi, metadata=_UNDATED[form])
    return file.getvalue()


def _settle(figure: Figure) -> None:
    """Let the layout engine place the axes once, and round where they are: its last digits vary from run to run."""
    if figure.get_layout_engine() is None:
        return
    figure.draw_without_rendering()  # type: ignore[no-untyped-call]
    figure.set_layout_engine("none")
    for axes in figure.get_axes():
        left, bottom, width, height = (round(value, 5) for value in axes.get_position(original=True).bounds)
        axes.set_position((left, bottom, width, height))
