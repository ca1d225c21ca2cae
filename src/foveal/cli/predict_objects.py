"""``foveal predict`` with a detector: objects as text, JSON and pictures."""

import json as json_text
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from foveal.cli.console import print_json, progress
from foveal.errors import FovealError
from foveal.files import whole
from foveal.report.detection import draw_objects
from foveal.report.evaluation import check_out_folder
from foveal.report.picture import write_picture
from foveal.tasks.detection.network import restore_detector
from foveal.tasks.detection.predict import DetectionPrediction, predict, to_coco
from foveal.tasks.detection.recipe import DetectionRecipe
from foveal.tasks.image_files import load_rgb

DETECTIONS = "detections.json"


def predict_objects(
    images: Sequence[Path],
    checkpoint: Path,
    recipe: DetectionRecipe | None,
    *,
    size: int | None,
    threshold: float,
    out: Path | None,
    json: bool,
) -> None:
    """Find the objects on ``images`` and tell them; with ``out`` also draw them."""
    if out is not None:
        check_out_folder(out)
    pictures = picture_paths(images, out) if out is not None else {}
    known = restore_detector(checkpoint, recipe, size=size)
    with progress("Detecting") as on_batch:
        predictions = predict(known.model, known.classes, images, threshold=threshold, on_batch=on_batch)
    document = to_coco(predictions, known.classes, known.category_ids)
    if out is not None:
        _write(out, json_text.dumps(document), predictions, pictures)
    if json:
        print_json(document)
    else:
        _print(predictions, pictures)


def picture_paths(images: Sequence[Path], out: Path) -> dict[str, Path]:
    """Where the picture of each image goes: under its own name in ``out``, numbered where several share one."""
    paths: dict[str, Path] = {}
    for image in dict.fromkeys(images):
        taken, number, name = set(paths.values()), 1, f"{image.stem}.png"
        while out / name in taken:
            number += 1
            name = f"{image.stem}_{number}.png"
        paths[str(image)] = out / name
    return paths


def _write(out: Path, document: str, predictions: Sequence[DetectionPrediction], pictures: dict[str, Path]) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        for prediction in predictions:
            picture = draw_objects(np.asarray(load_rgb(prediction.path, upright=True)), prediction.objects)
            write_picture(pictures[prediction.path], picture)
        with whole(out / DETECTIONS, "choose another --out") as part:
            part.write_text(document + "\n", encoding="utf-8")
    except OSError as error:
        raise FovealError(f"{out} cannot be written ({error.strerror}): choose another --out.") from error


def _print(predictions: Sequence[DetectionPrediction], pictures: dict[str, Path]) -> None:
    for prediction in predictions:
        picture = pictures.get(prediction.path)
        print(prediction.path + (f" -> {picture}" if picture else ""))
        if not prediction.objects:
            print("  nothing above the score")
        for thing in prediction.objects:
            x1, y1, x2, y2 = (round(side) for side in thing.box)
            print(f"  {100 * (thing.score or 0):5.1f} %  {thing.name:<20} {x1},{y1} to {x2},{y2}")
