"""A classifier's errors under corruptions as files: results, a table, a chart, and what the network saw."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foveal.plotting import new_figure, save_whole
from foveal.report.chart_confusion import write_table
from foveal.report.draw import write_picture
from foveal.report.draw_tiles import Tile, draw_tiles
from foveal.report.evaluation import write_document
from foveal.tasks.classification.corruption_library import CorruptionLibrary
from foveal.tasks.classification.data import Images
from foveal.tasks.classification.preprocessing import Preprocessing
from foveal.tasks.classification.robustness import CorruptedImages, Robustness

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLE, CHART, SHEET = "robustness.csv", "robustness.png", "corrupted.png"


def write_robustness(folder: Path, document: dict[str, Any], found: Robustness, sheet: np.ndarray, title: str) -> None:
    """Write ``results.json``, ``robustness.csv`` and ``.png``, and ``corrupted.png``.

    Raises:
        FovealError: matplotlib is not installed, or the folder cannot be written.
    """
    write_document(folder, document)
    heading = ["corruption", *(f"severity_{at}_error_percent" for at in found.severities), "mean_error_percent"]
    rows = [
        [name, *(round(error, 2) for error in errors.values()), round(found.means[name], 2)]
        for name, errors in found.errors.items()
    ]
    clean = ["clean", *([None] * len(found.severities)), round(found.clean_error, 2)]
    write_table(folder / TABLE, heading, [clean, *rows])
    save_whole(draw_robustness(found, title), folder / CHART)
    write_picture(folder / SHEET, sheet)


def draw_robustness(found: Robustness, title: str) -> Figure:
    """Draw the error of every corruption at every severity as a coloured table, with means and the clean error."""
    names = list(found.errors)
    cells = np.array([[*errors.values(), found.means[name]] for name, errors in found.errors.items()])
    whole = np.concatenate([np.full((1, cells.shape[1]), np.nan), cells])
    whole[0, -1] = found.clean_error
    figure = new_figure(3.0 + 0.62 * whole.shape[1], 2.0 + 0.28 * len(whole))
    axes = figure.subplots()
    axes.imshow(whole, cmap="YlOrRd", vmin=0, vmax=100, aspect="auto")
    for (row, column), error in np.ndenumerate(whole):
        if not np.isnan(error):
            ink = "white" if error > 65 else "black"
            axes.text(column, row, f"{error:.1f}", color=ink, fontsize=8, ha="center", va="center")
    axes.axvline(whole.shape[1] - 1.5, color="white", linewidth=4)
    axes.axhline(0.5, color="white", linewidth=4)
    axes.set_xticks(range(whole.shape[1]), [*map(str, found.severities), "mean"])
    axes.set_yticks(range(len(whole)), ["clean", *(name.replace("_", " ") for name in names)])
    axes.tick_params(length=0, labelsize=8)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_xlabel("severity", fontsize=8)
    heading = (
        f"{title}: top-1 error under corruptions, %\n"
        f"clean {found.clean_error:.2f}, mean {found.mean_error:.2f} (not divided by AlexNet's errors)\n"
        f"{found.clean.images:,} images, corrupted by {found.package} {found.version}"
    )
    figure.suptitle(heading, x=0.01, horizontalalignment="left", fontsize=10)
    return figure


def draw_corrupted(
    images: Images, fit: Preprocessing, library: CorruptionLibrary, found: Robustness, index: int = 0
) -> np.ndarray:
    """Draw an image as the network sees it, as it is and under every corruption at the middle severity."""
    severity = found.severities[len(found.severities) // 2]
    shape, _ = fit.halves()
    tiles = [Tile(np.asarray(shape(images.load(index))), ["clean", f"error {found.clean_error:.1f} %"])]
    for name, errors in found.errors.items():
        picture = CorruptedImages(images, fit, library, name, severity).load(index)
        tiles.append(Tile(np.asarray(picture), [name.replace("_", " "), f"error {errors[severity]:.1f} %"]))
    return draw_tiles(tiles, f"One image under corruptions of severity {severity}")
