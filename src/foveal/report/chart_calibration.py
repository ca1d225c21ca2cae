"""A reliability diagram: accuracy against confidence, and how many images have which confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveal.plotting import COLOURS, MUTED, new_figure, plain
from foveal.tasks.classification.answers import Calibration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAP = "#D55E00"


def draw_calibration(calibration: Calibration, title: str) -> Figure:
    """Draw the accuracy of each bin of confidence as a bar, its distance to the confidence, and the share of the images
    below it."""
    bins, width = len(calibration.counts), 100 / len(calibration.counts)
    figure = new_figure(5.2, 5.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    middles = [width * (place + 0.5) for place in range(bins)]
    for middle, sure, right in zip(middles, calibration.confidences, calibration.accuracies, strict=True):
        if sure is None or right is None:
            continue
        upper.bar(middle, right, width * 0.9, color=COLOURS[0])
        upper.plot([middle, middle], [right, sure], color=GAP, linewidth=2)
        upper.plot(middle, sure, "_", color=GAP, markersize=12, markeredgewidth=2)
    upper.plot([0, 100], [0, 100], color=MUTED, linestyle="--", linewidth=1)
    upper.bar([], [], color=COLOURS[0], label="accuracy")
    upper.plot([], [], "_", color=GAP, markersize=12, markeredgewidth=2, label="mean confidence")
    upper.plot([], [], color=MUTED, linestyle="--", linewidth=1, label="perfectly calibrated")
    upper.legend(frameon=False, fontsize=8, loc="upper left")
    upper.set(xlim=(0, 100), ylim=(0, 103))
    upper.set_ylabel("accuracy, %", fontsize=8)
    total = sum(calibration.counts)
    lower.bar(middles, [100 * count / total for count in calibration.counts], width * 0.9, color=MUTED)
    lower.set_ylabel("images, %", fontsize=8)
    lower.set_xlabel("confidence: probability of the predicted class, %", fontsize=8)
    for axes in (upper, lower):
        plain(axes, "y")
    error = f"expected calibration error {calibration.error:.2f} % ({bins} bins)"
    figure.suptitle(f"{title}\n{error}", x=0.01, horizontalalignment="left", fontsize=10)
    return figure
