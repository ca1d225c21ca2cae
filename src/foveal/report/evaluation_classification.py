"""A classifier's evaluation as files: results, accuracy against image size, relative errors by corruption, details."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveal.files import staging_folder, write_errors
from foveal.plotting import COLOURS, MUTED, new_figure, plain, save
from foveal.report.details_classification import FILES, write_details
from foveal.report.evaluation import ADVICE, JSON
from foveal.tasks.classification.cell import Cell
from foveal.tasks.classification.imagenet.corruptions import CorruptionErrors
from foveal.tasks.classification.modes import MODE_TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Marker, its size, dashes and width of each line; later lines are thinner, so coinciding lines all stay visible.
LINES = (("o", 9, "-", 3.5), ("s", 6, "--", 2.5), ("D", 4, "-.", 1.8), ("x", 4, ":", 1.2))
SCALES, CORRUPTIONS, DETAILS = "sizes.png", "corruptions.png", "details"


def write_results(folder: Path, document: dict[str, Any], cells: Sequence[Cell]) -> None:
    """Write ``results.json``, ``sizes.png`` if there are several sizes, ``corruptions.png`` if ImageNet-C was
    evaluated, and the details of each other evaluation (see ``details_classification``): beside these files if there
    is one evaluation, otherwise in a folder of ``details`` that is called after its set, mode and size.

    The files are written to a temporary folder and moved into place when all are complete; older ones are removed.

    Raises:
        FovealError: matplotlib is not installed, or the folder cannot be written.
    """
    with staging_folder(folder, ADVICE) as staging, write_errors(folder, ADVICE):
        _write_files(staging, document, cells)
        for name in (SCALES, CORRUPTIONS, *FILES):
            (folder / name).unlink(missing_ok=True)
        if (folder / DETAILS).is_dir():
            shutil.rmtree(folder / DETAILS)


def _write_files(folder: Path, document: dict[str, Any], cells: Sequence[Cell]) -> None:
    plain = [cell for cell in cells if cell.corruptions is None]
    (folder / JSON).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if len({cell.size for cell in plain}) > 1:
        save(draw_sizes(plain, document["model"]), folder / SCALES, "png")
    if len(plain) < len(cells):
        corrupted = [cell for cell in cells if cell.corruptions is not None]
        save(draw_corruptions(corrupted, document["model"]), folder / CORRUPTIONS, "png")
    detailed = [cell for cell in cells if cell.score.answers is not None and cell.source is not None]
    for cell in detailed:
        place = folder if len(cells) == 1 else folder / DETAILS / _folder_name(cell)
        place.mkdir(parents=True, exist_ok=True)
        write_details(place, cell, _title(cell, document["model"]))


def _folder_name(cell: Cell) -> str:
    height, width = cell.size
    side = str(height) if height == width else f"{height}x{width}"
    return "-".join([cell.read if cell.set == "val" else cell.set, *([cell.mode] if cell.mode else []), side])


def _title(cell: Cell, model: str) -> str:
    mode = f", {MODE_TITLES[cell.mode]}" if cell.mode else ""
    return f"{model}, {cell.title} at {cell.size[0]} pixels{mode}"


def draw_sizes(cells: Sequence[Cell], title: str) -> Figure:
    """Draw top-1 against the side of the image: one panel per set, one line per mode, published figures as rings."""
    sets = list(dict.fromkeys(cell.title for cell in cells))
    figure = new_figure(6.4, 0.5 + 3.6 * len(sets))
    axes = figure.subplots(len(sets), 1, squeeze=False)[:, 0]
    for one, name in zip(axes, sets, strict=True):
        alike = [cell for cell in cells if cell.title == name]
        classes = alike[0].score.counted_classes, len(alike[0].classes)
        over = f" over {classes[0]} of {classes[1]} classes" if classes[0] < classes[1] else ""
        _size_panel(one, alike, f"{title}: top-1, {name}{over}, %")
    return figure


def draw_corruptions(cells: Sequence[Cell], title: str) -> Figure:
    """Draw the CE of each corruption as a bar (AlexNet is 100), one panel per evaluation."""
    figure = new_figure(6.4, 4.6 * len(cells))
    axes = figure.subplots(len(cells), 1, squeeze=False)[:, 0]
    for one, cell in zip(axes, cells, strict=True):
        assert cell.corruptions is not None
        mode = f", {MODE_TITLES[cell.mode]}" if cell.mode else ""
        _corruption_panel(one, cell.corruptions, cell.paper)
        one.set_title(f"{title}: ImageNet-C at {cell.size[0]} pixels{mode}", fontsize=10, loc="left")
    return figure


def _size_panel(axes: Axes, cells: Sequence[Cell], title: str) -> None:
    for number, mode in enumerate(dict.fromkeys(cell.mode for cell in cells)):
        colour, (marker, size, dashes, width) = COLOURS[number], LINES[number % len(LINES)]
        line = sorted((cell for cell in cells if cell.mode == mode), key=_side)
        style: dict[str, Any] = {"color": colour, "label": MODE_TITLES[mode] or "top-1"}
        style |= {"marker": marker, "markersize": size, "linestyle": dashes}
        axes.plot([_side(c) for c in line], [c.score.top1 for c in line], linewidth=width, zorder=2 + number, **style)
        rings = [(_side(cell), cell.paper) for cell in line if cell.paper is not None]
        if rings:
            axes.plot(*zip(*rings, strict=True), "o", color=colour, markersize=11 + 3 * number, fillstyle="none")
    if any(cell.paper is not None for cell in cells):
        axes.plot([], [], "o", color=MUTED, markersize=9, fillstyle="none", label="published")
    sides = sorted({_side(cell) for cell in cells})
    axes.set_xticks(sides, [f"{side:g}" for side in sides], rotation=0 if len(sides) < 12 else 90)
    axes.set_xlabel("side of the image, pixels", fontsize=8)
    axes.set_title(title, fontsize=10, loc="left")
    if axes.get_legend_handles_labels()[1] != ["top-1"]:
        axes.legend(frameon=False, fontsize=8)
    plain(axes, "y")


def _corruption_panel(axes: Axes, found: CorruptionErrors, paper: float | None) -> None:
    relative = found.relative
    axes.barh(range(len(relative)), list(relative.values()), height=0.7, color=COLOURS[0])
    labels = [f"{name.replace('_', ' ')}   {value:.1f}" for name, value in relative.items()]
    axes.set_yticks(range(len(relative)), labels, fontsize=8)
    axes.invert_yaxis()
    published = "" if paper is None else f" (published: {paper:.1f})"
    axes.axvline(found.mce, color="black", linewidth=1, linestyle="--")
    axes.set_xlabel(f"CE: error relative to AlexNet, %; dashed: mean, mCE {found.mce:.1f}{published}", fontsize=8)
    plain(axes, "x")


def _side(cell: Cell) -> float:
    return (cell.size[0] * cell.size[1]) ** 0.5
