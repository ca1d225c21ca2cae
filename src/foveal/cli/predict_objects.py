"""``foveal predict`` with a detector: objects as text, JSON and pictures."""

import json as json_text
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from foveal.cli.console import print_json, progress
from foveal.cli.predict_files import name_files
from foveal.files import atomic_file, check_writable, make_folder
from foveal.models.weights_file import WeightsFile
from foveal.report.draw import write_picture
from foveal.report.draw_objects import draw_objects
from foveal.tasks.detection.predict import DetectionPrediction, predict, to_coco
from foveal.tasks.detection.recipe import DetectionRecipe
from foveal.tasks.detection.task import DetectionTask
from foveal.tasks.image_files import load_rgb

DETECTIONS = "detections.json"


def predict_objects(
    images: Sequence[Path],
    checkpoint: WeightsFile,
    recipe: DetectionRecipe | None,
    *,
    size: int | None,
    threshold: float,
    out: Path | None,
    json: bool,
) -> None:
    """Find the objects on ``images`` and tell them; with ``out`` also draw them."""
    if out is not None:
        check_writable(out)
    files = name_files(images, out, [".png"]) if out is not None else {}
    pictures = {path: picture for path, (picture,) in files.items()}
    known = DetectionTask.restore(checkpoint, recipe, size=size)
    with progress("Detecting") as on_batch:
        predictions = predict(known.model, known.classes, images, threshold=threshold, on_batch=on_batch)
    document = to_coco(predictions, known.classes, known.category_ids)
    if out is not None:
        _write(out, json_text.dumps(document), predictions, pictures)
    if json:
        print_json(document)
    else:
        _print(predictions, pictures)


def _write(out: Path, document: str, predictions: Sequence[DetectionPrediction], pictures: dict[str, Path]) -> None:
    make_folder(out, "choose another --out")
    for prediction in predictions:
        picture = draw_objects(np.asarray(load_rgb(prediction.path, upright=True)), prediction.objects)
        write_picture(pictures[prediction.path], picture)
    with atomic_file(out / DETECTIONS, "choose another --out") as part:
        part.write_text(document + "\n", encoding="utf-8")


def _print(predictions: Sequence[DetectionPrediction], pictures: dict[str, Path]) -> None:
    for prediction in predictions:
        picture = pictures.get(prediction.path)
        print(prediction.path + (f" -> {picture}" if picture else ""))
        if not prediction.objects:
            print("  nothing above the score")
        for thing in prediction.objects:
            x1, y1, x2, y2 = (round(side) for side in thing.box)
            print(f"  {100 * (thing.score or 0):5.1f} %  {thing.name:<20} {x1},{y1} to {x2},{y2}")
