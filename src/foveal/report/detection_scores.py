"""A detector's evaluation for the eye: precision and recall, AP of every class, images beside their annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from foveal.plotting import COLOURS, MUTED, new_figure, plain
from foveal.report.detection import draw_objects
from foveal.report.sheet import draw_sheet, draw_strip
from foveal.tasks.detection.average_precision import IOU_THRESHOLDS, RECALLS, AveragePrecision
from foveal.tasks.detection.predict import DetectedObject

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVES = {"ap50": (0.5, COLOURS[0]), "ap75": (0.75, COLOURS[5])}
TITLES = {"box": "boxes", "mask": "masks"}


@dataclass(frozen=True)
class Comparison:
    """An image, (H, W, 3) uint8, what a person marked on it, and what was detected."""

    name: str
    image: np.ndarray
    annotated: Sequence[DetectedObject]
    detected: Sequence[DetectedObject]


def draw_precision_recall(scores: Sequence[AveragePrecision], title: str) -> Figure:
    """Precision against recall, the mean over the classes, at IoU 0.5, 0.75, and over all ten; a panel a kind."""
    figure = new_figure(0.6 + 4.4 * len(scores), 4.2)
    panels = figure.subplots(1, len(scores), squeeze=False)[0]
    for axes, one in zip(panels, scores, strict=True):
        _precision_panel(axes, one)
        axes.set_title(f"{title}: {TITLES[one.kind]}", fontsize=10, loc="left")
    return figure


def draw_classes(scores: Sequence[AveragePrecision], title: str) -> Figure:
    """AP of each class as a bar, the best at the top; a panel a kind, all in the order of the first."""
    order = sorted(scores[0].classes, key=lambda name: -scores[0].classes[name])
    figure = new_figure(0.6 + 4.4 * len(scores), 1.2 + 0.2 * len(order))
    panels = figure.subplots(1, len(scores), squeeze=False, sharex=True)[0]
    for number, (axes, one) in enumerate(zip(panels, scores, strict=True)):
        values = [one.classes[name] for name in order]
        axes.barh(range(len(order)), values, height=0.7, color=COLOURS[0])
        labels = [f"{name if number == 0 else ''}   {value:.1f}" for name, value in zip(order, values, strict=True)]
        axes.set_yticks(range(len(order)), labels, fontsize=8)
        axes.set_ylim(len(order) - 0.4, -0.6)
        axes.axvline(one.overall["ap"], color="black", linewidth=1, linestyle="--")
        axes.set_xlabel(f"AP, %; dashed: their mean, {one.overall['ap']:.1f}", fontsize=8)
        axes.set_title(f"{title}: {TITLES[one.kind]}", fontsize=10, loc="left")
        plain(axes, "x")
    return figure


def draw_comparisons(comparisons: Sequence[Comparison], columns: int = 2, side: int = 420) -> np.ndarray:
    """A sheet of pairs, left as annotated, right as detected: (H, W, 3) uint8.

    Args:
        columns: pairs in a row.
        side: the longer side of each picture, in pixels.
    """
    return draw_sheet([_pair(comparison, side) for comparison in comparisons], columns)


def _pair(comparison: Comparison, side: int) -> Image.Image:
    kinds = {"annotated": comparison.annotated, "detected": comparison.detected}
    pictures = [(caption, draw_objects(comparison.image, objects, side)) for caption, objects in kinds.items()]
    return draw_strip(comparison.name, pictures, side)


def _precision_panel(axes: Axes, scores: AveragePrecision) -> None:
    by_iou = np.nanmean(scores.precision, axis=2)
    recall = np.array(RECALLS) * 100
    for name, (iou, colour) in CURVES.items():
        line = by_iou[IOU_THRESHOLDS.index(iou)] * 100
        axes.plot(recall, line, color=colour, label=f"IoU {iou:.2f}: AP {scores.overall[name]:.1f}")
    mean = f"mean of IoU 0.50 to 0.95: AP {scores.overall['ap']:.1f}"
    axes.plot(recall, by_iou.mean(0) * 100, color=MUTED, linestyle="--", label=mean)
    axes.set(xlim=(0, 100), ylim=(0, 103))
    axes.set_xlabel("recall, %", fontsize=8)
    axes.set_ylabel("precision, %, mean over the classes", fontsize=8)
    axes.legend(frameon=False, fontsize=8, loc="best")
    plain(axes, "both")
