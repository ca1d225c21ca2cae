"""``foveal evaluate`` of a detector: average precision of boxes and masks."""

import sys
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from rich.console import Console
from rich.table import Table

from foveal.cli.console import print_json, progress
from foveal.errors import FovealError
from foveal.report.detection_files import write_evaluation
from foveal.report.evaluation import check_out_folder
from foveal.tasks.detection.average_precision import AveragePrecision
from foveal.tasks.detection.data import collate, open_split
from foveal.tasks.detection.evaluate import DetectionEvaluation, evaluate_detector
from foveal.tasks.detection.network import KnownDetector, restore_detector
from foveal.tasks.detection.recipe import DetectionRecipe
from foveal.tasks.detection.task import data_folder, notices_of
from foveal.training.config import Broken, Precision
from foveal.training.loading import evaluation_loader
from foveal.training.processes import check_precision, leave_processes, start_processes

COLUMNS = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "ap_small": "small", "ap_medium": "medium", "ap_large": "large"}


def evaluate_on_coco(
    recipe: DetectionRecipe,
    checkpoint: Path,
    data: Path | None,
    *,
    split: str,
    size: int | None,
    batch_size: int,
    workers: int,
    precision: Precision,
    broken: Broken,
    out: Path | None,
    json: bool,
) -> None:
    """Measure the detector in a file and print the figures; see ``foveal.cli.evaluate`` for the options."""
    if out is not None:
        check_out_folder(out)
    known = restore_detector(checkpoint, recipe, size=size)
    folder = data_folder(recipe, data)
    images = open_split(folder, split, masks=known.model.needs_masks, broken=broken)
    _check_classes(known, images.classes, folder)
    processes = start_processes()
    check_precision(precision, processes.device)
    loader = evaluation_loader(images, batch_size, processes.share, workers, collate=collate, broken=broken)
    model = known.model.to(processes.device)
    with processes.autocast(precision), progress("Evaluating", shown=processes.is_main) as on_batch:
        evaluation = evaluate_detector(model, loader, images, processes, on_batch=on_batch)
    is_main = processes.is_main
    leave_processes()
    if not is_main:
        return
    for notice in (*notices_of(images), *(f"{name} could not be read and was left out." for name in evaluation.broken)):
        print(f"foveal: {notice}", file=sys.stderr)
    document = {
        "recipe": recipe.name,
        "model": known.name,
        "checkpoint": str(checkpoint),
        "data": str(folder),
        "split": split,
        "precision": precision,
        "results": evaluation.document,
    }
    if json:
        print_json(document)
    else:
        _print(evaluation, known.name)
    if out is not None:  # last, so that a full disk costs no answer
        write_evaluation(out, document, evaluation, images, known.name)


def _check_classes(known: KnownDetector, classes: Sequence[str], folder: Path) -> None:
    for number, (own, other) in enumerate(zip_longest(known.classes, classes, fillvalue="missing"), start=1):
        if own != other:
            raise FovealError(
                f"The detector knows {len(known.classes)} classes and {folder} has {len(classes)}, of which number "
                f"{number} is {own} there and {other} here: pass the --data that it was trained on."
            )


def _print(evaluation: DetectionEvaluation, title: str) -> None:
    console = Console(highlight=False)
    console.print(f"{title}, {evaluation.images} images, {evaluation.images_per_second:.1f} images/s")
    kinds = [kind for kind in (evaluation.box, evaluation.mask) if kind is not None]
    console.print(_overall(kinds))
    console.print(_by_class(kinds))


def _overall(kinds: Sequence[AveragePrecision]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for heading in COLUMNS.values():
        table.add_column(heading, justify="right")
    for kind in kinds:
        table.add_row(kind.kind, *(_figure(kind.overall, name) for name in COLUMNS))
    return table


def _by_class(kinds: Sequence[AveragePrecision]) -> Table:
    """Classes by falling box AP."""
    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    for kind in kinds:
        table.add_column(f"{kind.kind} AP", justify="right")
    for name in sorted(kinds[0].classes, key=lambda name: -kinds[0].classes[name]):
        table.add_row(name, *(_figure(kind.classes, name) for kind in kinds))
    return table


def _figure(values: Mapping[str, float], name: str) -> str:
    return f"{values[name]:.1f}" if name in values else "-"
