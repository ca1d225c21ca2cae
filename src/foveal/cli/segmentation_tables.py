"""A segmenter's evaluation as tables: 80 columns and more, by the width of the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from foveal.tasks.segmentation.evaluate import SegmentationEvaluation
from foveal.tasks.segmentation.inference import Inference

OVERALL = {"miou": "mIoU", "macc": "mAcc", "aacc": "aAcc"}
LONGEST_NAME, FIGURE, GAP = 23, 6, 3  # columns of text: of a class's name, a figure, and between classes
Row = tuple[str, float | None, float | None]


def print_evaluation(evaluation: SegmentationEvaluation, title: str, inference: Inference) -> None:
    """The figures on stdout: overall, then those of each class, the best first, in as many columns as there is room
    for."""
    console = Console(highlight=False)
    console.print(f"{title}, {evaluation.images} images, {evaluation.images_per_second:.1f} images/s")
    console.print(describe(inference))
    console.print(_overall(evaluation))
    console.print(_by_class(evaluation, console.width))


def describe(inference: Inference) -> str:
    """How images were seen, as a person reads it."""
    short, scales = inference.short, inference.scales
    size = "in their own size" if short is None else f"with short side {short:,}"
    parts = [f"Images {size}, long side at most {inference.long:,}"]
    if inference.window is not None:
        parts.append(f"windows of {inference.window:,} every {inference.stride:,}")
    if len(scales) > 1:
        parts.append(f"{len(scales)} scales, {min(scales):g} to {max(scales):g}")
    elif scales != (1.0,):
        parts.append(f"times {scales[0]:g}")
    if inference.flip:
        parts.append("mirrored too")
    return "; ".join(parts) + "."


def _overall(evaluation: SegmentationEvaluation) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in OVERALL.values():
        table.add_column(heading, justify="right")
    table.add_row(*(f"{evaluation.metrics[name]:.2f}" for name in OVERALL))
    return table


def _by_class(evaluation: SegmentationEvaluation, width: int) -> Table:
    """Classes by falling IoU, those without one last, column by column."""
    scores = evaluation.scores
    rows = sorted(
        zip(evaluation.classes, scores.iou, scores.accuracy, strict=True),
        key=lambda row: (row[1] is None, -(row[1] or 0)),
    )
    name_width = min(LONGEST_NAME, max(len("class"), *(len(name) for name in evaluation.classes)))
    columns = max(1, (width + GAP) // (name_width + 2 * (FIGURE + 1) + GAP))
    length = -(-len(rows) // columns)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), collapse_padding=True)
    for number in range(-(-len(rows) // length)):
        table.add_column("class" if number == 0 else "  class", no_wrap=True, overflow="ellipsis")
        table.add_column("IoU", justify="right", min_width=FIGURE)
        table.add_column("Acc", justify="right", min_width=FIGURE)
    for line in range(length):
        table.add_row(*_line(rows[line::length], name_width))
    return table


def _line(rows: Sequence[Row], name_width: int) -> list[str]:
    """Those classes that stand beside each other."""
    cells = []
    for number, (name, iou, accuracy) in enumerate(rows):
        shown = name if len(name) <= name_width else f"{name[: name_width - 3]}..."
        cells += [f"{'' if number == 0 else '  '}{shown}", _figure(iou), _figure(accuracy)]
    return cells


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
