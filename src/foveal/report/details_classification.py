"""What a classifier gets right and wrong, as files: accuracy by class, the confusion matrix, the worst mistakes, and
calibration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from foveal.plotting import save
from foveal.report.chart_calibration import draw_calibration
from foveal.report.chart_confusion import draw_confusion, most_confused, write_confusion, write_table
from foveal.report.draw import write_picture
from foveal.report.draw_tiles import Tile, draw_tiles
from foveal.tasks.classification.answers import TopAnswers, class_accuracies
from foveal.tasks.classification.cell import Cell
from foveal.tasks.classification.data import Images
from foveal.training.loading import continues

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLASSES, CONFUSION, MISTAKES = "classes.csv", "confusion.csv", "mistakes.csv"
CONFUSION_CHART, MISTAKE_SHEET, CALIBRATION_CHART = "confusion.png", "mistakes.png", "calibration.png"
FILES = (CLASSES, CONFUSION, MISTAKES, CONFUSION_CHART, MISTAKE_SHEET, CALIBRATION_CHART)
MOST_MISTAKES = 24  # on the sheet; the table has all


def write_details(folder: Path, cell: Cell, title: str) -> None:
    """Write the details of one evaluation into an existing folder: ``classes.csv``, ``confusion.csv`` and ``.png``,
    ``mistakes.csv`` and ``.png`` if there is one, and ``calibration.png``."""
    answers, images = cell.score.answers, cell.source
    assert answers is not None
    assert images is not None
    classes = cell.classes
    counts = answers.confusion(len(classes))
    support, hits = counts.sum(1).tolist(), counts.diagonal().tolist()
    rows = zip(classes, support, hits, map(_rounded, class_accuracies(counts)), strict=True)
    write_table(folder / CLASSES, ["class", "images", "right", "accuracy_percent"], list(rows))
    write_confusion(folder / CONFUSION, counts.numpy(), classes, classes, "true class")
    save(_confusion_chart(counts.numpy(), classes, title), folder / CONFUSION_CHART, "png")
    save(draw_calibration(answers.calibration(), title), folder / CALIBRATION_CHART, "png")
    if len(answers.mistakes()):
        _write_mistakes(folder, answers, images, classes, title)


def _confusion_chart(counts: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """Draw all classes, or those with the most mistakes and everything else as one column."""
    chosen = most_confused(counts)
    names, support, part = [classes[place] for place in chosen], counts[chosen].sum(1), counts[np.ix_(chosen, chosen)]
    rows = [f"{name} ({count:,})" for name, count in zip(names, support.tolist(), strict=True)]
    title = f"{title}: images of each class, %"
    if len(chosen) < len(classes):
        title += f"\nthe {len(chosen)} of {len(classes):,} classes with the most mistakes"
        part, names = np.concatenate([part, (support - part.sum(1))[:, None]], 1), [*names, "others"]
    return draw_confusion(part, rows, names, title, ("true class (images)", "predicted class"))


def _write_mistakes(folder: Path, answers: TopAnswers, images: Images, classes: Sequence[str], title: str) -> None:
    order = answers.mistakes()
    columns = (answers.indices, answers.targets, answers.predictions, answers.confidences)
    rows = list(zip(*(column[order].tolist() for column in columns), strict=True))
    table = [[images.names[at], classes[true], classes[guess], round(sure, 4)] for at, true, guess, sure in rows]
    write_table(folder / MISTAKES, ["image", "true class", "predicted class", "probability"], table)
    tiles = _tiles(rows[:MOST_MISTAKES], images, classes) if continues(images) else []
    if tiles:
        count = f"all {len(rows):,}" if len(tiles) == len(rows) else f"the {len(tiles)} most confident of {len(rows):,}"
        write_picture(folder / MISTAKE_SHEET, draw_tiles(tiles, f"{title}: mistakes, {count}"))


def _tiles(rows: Sequence[tuple[int, int, int, float]], images: Images, classes: Sequence[str]) -> list[Tile]:
    tiles = []
    for at, true, guess, sure in rows:
        lines = [f"{classes[guess]}, {100 * sure:.1f} %", f"true class {classes[true]}", Path(images.names[at]).name]
        tiles.append(Tile(np.asarray(images.load(at)), lines, dark=2))
    return tiles


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
