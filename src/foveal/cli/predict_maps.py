"""``foveal predict`` with a segmenter: the classes of pixels as text, JSON, pictures and label maps."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from foveal.cli.console import print_json, progress
from foveal.cli.predict_files import name_files
from foveal.files import check_writable, make_folder
from foveal.models.weights_file import WeightsFile
from foveal.report.draw import write_picture
from foveal.report.draw_label_map import draw_prediction
from foveal.report.draw_legend import percent
from foveal.tasks.image_files import load_rgb
from foveal.tasks.segmentation.predict import LabelMapPrediction, predict, write_label_map
from foveal.tasks.segmentation.recipe import SegmentationRecipe
from foveal.tasks.segmentation.task import SegmentationTask

ENDINGS = (".png", "_labels.png")
Files = Mapping[str, Sequence[Path]]


def predict_maps(
    images: Sequence[Path],
    checkpoint: WeightsFile,
    recipe: SegmentationRecipe | None,
    *,
    size: int | None,
    out: Path | None,
    json: bool,
) -> None:
    """Tell the class of every pixel of ``images``; with ``out`` also draw them, and write them as label maps."""
    if out is not None:
        check_writable(out)
    files: Files = name_files(images, out, ENDINGS) if out is not None else {}
    known = SegmentationTask.restore(checkpoint, recipe, size=size)
    with progress("Segmenting") as on_batch:
        predictions = predict(known.model, known.classes, images, inference=known.inference, on_batch=on_batch)
    if out is not None:
        _write(out, predictions, files, known.classes)
    if json:
        print_json([_document(prediction, files) for prediction in predictions])
    else:
        _print(predictions, files)


def _write(out: Path, predictions: Sequence[LabelMapPrediction], files: Files, classes: Sequence[str]) -> None:
    make_folder(out, "choose another --out")
    for prediction in predictions:
        picture, label_map = files[prediction.path]
        image = np.asarray(load_rgb(prediction.path, upright=True))
        write_picture(picture, draw_prediction(image, prediction.labels, classes, prediction.shares))
        write_label_map(label_map, prediction.labels)


def _document(prediction: LabelMapPrediction, files: Files) -> dict[str, Any]:
    picture, label_map = files.get(prediction.path, (None, None))
    return {
        "path": prediction.path,
        "height": prediction.height,
        "width": prediction.width,
        "classes": [asdict(share) for share in prediction.shares],
        "picture": None if picture is None else str(picture),
        "label_map": None if label_map is None else str(label_map),
    }


def _print(predictions: Sequence[LabelMapPrediction], files: Files) -> None:
    for prediction in predictions:
        written = ", ".join(map(str, files.get(prediction.path, ())))
        print(prediction.path + (f" -> {written}" if written else ""))
        for share in prediction.shares:
            print(f"  {percent(share.share):>7}  {share.name}")
