"""The commands for detectors: ``foveal evaluate`` with average precision, ``foveal predict`` with boxes and masks."""

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from foveal.cli.console import columns, print_json, progress, say, show_notices
from foveal.cli.options import EvaluateOptions, PredictOptions, single_size, weights_file
from foveal.files import check_writable, output_paths, staging_folder
from foveal.models.weights_file import WeightsFile
from foveal.report.draw import write_picture
from foveal.report.draw_objects import draw_objects
from foveal.report.evaluation_detection import write_evaluation
from foveal.runtime.session import Session
from foveal.tasks.detection.average_precision import AveragePrecision
from foveal.tasks.detection.data import collate, open_split
from foveal.tasks.detection.evaluate import DetectionEvaluation, evaluate_detector
from foveal.tasks.detection.exported import predict as detect_exported
from foveal.tasks.detection.predict import DetectionPrediction, to_coco
from foveal.tasks.detection.predict import predict as detect
from foveal.tasks.detection.recipes import DetectionRecipe
from foveal.tasks.detection.task import DetectionTask
from foveal.training.loading import evaluation_loader
from foveal.training.processes import check_precision, leave_processes, start_processes
from foveal.wording import many, percent

THRESHOLD = 0.5
DETECTIONS = "detections.json"
COLUMNS = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "ap_small": "small", "ap_medium": "medium", "ap_large": "large"}


def evaluate(recipe: DetectionRecipe, options: EvaluateOptions) -> None:
    """Evaluate the detector in a file and print average precision."""
    checkpoint, size = weights_file(recipe, options), single_size(recipe, options)
    out, broken = options.out, options.broken
    if out is not None:
        check_writable(out)
    known = DetectionTask.restore(checkpoint, recipe, size=size)
    folder = DetectionTask.data_folder(recipe, options.data)
    images = open_split(
        folder,
        options.split,
        masks=known.model.needs_masks,
        broken=broken,
        classes=dict(zip(known.category_ids, known.classes, strict=True)),
        held_out=known.held_out,
    )
    images.check_objects("evaluate")
    processes = start_processes()
    check_precision(options.precision, processes.device)
    loader = evaluation_loader(
        images, options.batch_size or 1, processes.share, options.workers, collate=collate, broken=broken
    )
    model = known.model.to(processes.device)
    with processes.autocast(options.precision), progress("Evaluating", shown=processes.is_main) as on_batch:
        evaluation = evaluate_detector(model, loader, images, processes, on_batch=on_batch)
    is_main = processes.is_main
    leave_processes()
    if not is_main:
        return
    notices = [*images.notices, *(f"{name} could not be read and was left out." for name in evaluation.broken)]
    show_notices(notices)
    document = {
        "recipe": recipe.name,
        "model": known.name,
        "checkpoint": str(checkpoint),
        "data": str(folder),
        "split": options.split,
        "set": images.set_name or options.split,
        "annotations": str(images.annotation_file),
        "precision": options.precision,
        "notices": notices,
        "results": evaluation.document,
    }
    if options.json:
        print_json(document)
    else:
        _print_evaluation(evaluation, known.name)
    if out is not None:  # last, so that a full disk costs no answer
        write_evaluation(out, document, evaluation, images, known.name)


def _print_evaluation(evaluation: DetectionEvaluation, title: str) -> None:
    console = Console(highlight=False)
    speed = f"{evaluation.images_per_second:.1f} images/s"
    scope = evaluation.box.scope and f", AP{evaluation.box.scope}"
    say(f"{title}, {many(evaluation.images, 'image')}, {speed}{scope}")
    kinds = [kind for kind in (evaluation.box, evaluation.mask) if kind is not None]
    console.print(_overall(kinds))
    console.print(_by_class(kinds))


def _overall(kinds: Sequence[AveragePrecision]) -> Table:
    table = columns([""], list(COLUMNS.values()), gap=2)
    for kind in kinds:
        table.add_row(kind.kind, *(_figure(kind.overall, name) for name in COLUMNS))
    return table


def _by_class(kinds: Sequence[AveragePrecision]) -> Table:
    """Return a table of classes by descending box AP, then those without objects."""
    table = columns(["class"], [f"{kind.kind} AP" for kind in kinds], gap=2)
    for name in sorted(kinds[0].classes, key=lambda name: -kinds[0].classes[name]):
        table.add_row(name, *(_figure(kind.classes, name) for kind in kinds))
    for name in kinds[0].without_objects:
        table.add_row(f"{name} (no object)", *("-" for _ in kinds))
    return table


def _figure(values: Mapping[str, float], name: str) -> str:
    return f"{values[name]:.2f}" if name in values else "-"


def predict(
    images: Sequence[Path], weights: WeightsFile, recipe: DetectionRecipe | None, options: PredictOptions
) -> None:
    """Detect objects on ``images`` and print them; with ``--out`` also draw them."""
    pictures = _pictures(images, options.out)
    known = DetectionTask.restore(weights, recipe, size=options.size)
    _predict(partial(detect, known.model, known.classes, images), known.classes, known.category_ids, pictures, options)


def predict_exported(images: Sequence[Path], session: Session, options: PredictOptions) -> None:
    """Detect objects on ``images`` with an exported file, as ``predict``."""
    pictures, card = _pictures(images, options.out), session.card
    find = partial(detect_exported, session, images, size=options.size)
    _predict(find, card.classes, card.settings.get("category_ids", ()), pictures, options)


def _pictures(images: Sequence[Path], out: Path | None) -> dict[str, Path]:
    """Return the picture to write of each image, by its path."""
    if out is None:
        return {}
    check_writable(out)
    return {path: picture for path, (picture,) in output_paths(images, out, [".png"]).items()}


def _predict(
    find: Callable[..., list[DetectionPrediction]],
    classes: Sequence[str],
    category_ids: Sequence[int],
    pictures: Mapping[str, Path],
    options: PredictOptions,
) -> None:
    out, threshold = options.out, THRESHOLD if options.score is None else options.score
    staged = contextlib.nullcontext() if out is None else staging_folder(out, "choose another --out")
    with staged as stage, progress("Detecting") as on_batch:

        def draw(prediction: DetectionPrediction, image: np.ndarray) -> None:
            if stage is not None:
                write_picture(stage / pictures[prediction.path].name, draw_objects(image, prediction.objects))

        predictions = find(threshold=threshold, on_batch=on_batch, on_image=draw)
        document = to_coco(predictions, classes, category_ids)
        if stage is not None:
            (stage / DETECTIONS).write_text(json.dumps(document) + "\n", encoding="utf-8")
    if options.json:
        print_json(document)
    else:
        _print_objects(predictions, pictures)


def _print_objects(predictions: Sequence[DetectionPrediction], pictures: Mapping[str, Path]) -> None:
    for prediction in predictions:
        picture = pictures.get(prediction.path)
        print(prediction.path + (f" -> {picture}" if picture else ""))
        if not prediction.objects:
            print("  nothing above the score")
        for found in prediction.objects:
            x1, y1, x2, y2 = (round(side) for side in found.box)
            print(f"  {percent(100 * (found.score or 0)):>8}  {found.name:<20} {x1},{y1} to {x2},{y2}")
