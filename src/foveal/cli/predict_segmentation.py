"""``foveal predict`` with segmenters: shares of the classes, pictures with a legend, and label maps."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from foveal.cli.options import PredictOptions
from foveal.cli.predict_run import Tally, check_folder, run, screen_of
from foveal.models.weights_file import WeightsFile
from foveal.report.answer_files import json_list
from foveal.report.draw import write_picture
from foveal.report.draw_label_map import draw_prediction
from foveal.report.draw_legend import class_colours, percent
from foveal.report.picture_folder import PictureFolder, picture_folder
from foveal.runtime.predicting import Answer, Predictor
from foveal.runtime.session import Session
from foveal.tasks.inputs import Inputs
from foveal.tasks.segmentation.exported import ExportedSegmenter
from foveal.tasks.segmentation.predict import LabelMapPrediction, LabelMapPredictor, write_label_map
from foveal.tasks.segmentation.recipes import SegmentationRecipe
from foveal.tasks.segmentation.task import SegmentationTask

ENDINGS = (".png", "_labels.png")
LABEL_MAPS = "label_maps.json"
Found = Answer[np.ndarray, LabelMapPrediction]


def predict(inputs: Inputs, weights: WeightsFile, recipe: SegmentationRecipe | None, options: PredictOptions) -> Tally:
    """Predict the class of every pixel of images; with ``--out`` also draw them and write label maps."""
    check_folder(options.out, "segmenter")
    known = SegmentationTask.restore(weights, recipe, size=options.size)
    predictor = LabelMapPredictor(known.model, known.classes, inference=known.inference)
    return _predict(inputs, predictor, known.classes, options)


def predict_exported(inputs: Inputs, session: Session, options: PredictOptions) -> Tally:
    """Predict the class of every pixel of images with an exported file, as ``predict``."""
    check_folder(options.out, "segmenter")
    return _predict(inputs, ExportedSegmenter(session, size=options.size), session.card.classes, options)


def _predict(
    inputs: Inputs,
    predictor: Predictor[np.ndarray, LabelMapPrediction],
    classes: Sequence[str],
    options: PredictOptions,
) -> Tally:
    with ExitStack() as stack:
        folder, writers = None, []
        if options.out is not None:
            folder = stack.enter_context(picture_folder(options.out, inputs.paths, ENDINGS))
            file = stack.enter_context((folder.stage / LABEL_MAPS).open("w", encoding="utf-8"))
            writers.append(stack.enter_context(json_list(file)))
        if options.json:
            writers.append(stack.enter_context(json_list(sys.stdout)))
        screen = stack.enter_context(screen_of("Segmenting", inputs, options))

        def add(found: Found) -> None:
            files = [] if folder is None else _draw(folder, found, classes)
            for write in writers:
                write(_document(found.answer, files))
            if not options.json:
                screen.say(_text(found.answer, files))

        return run(inputs, predictor, add, screen, options.workers)


def _draw(folder: PictureFolder, found: Found, classes: Sequence[str]) -> list[Path]:
    """Draw a label map on its image, in the image's size, write the map, and return the paths that both will have."""
    final, (picture, label_map) = folder.place(found.picture)
    image, answer = found.prepared, found.answer
    write_picture(picture, draw_prediction(image, answer.labels, classes, answer.shares, max(image.shape[:2])))
    write_label_map(label_map, answer.labels, class_colours(classes))
    return final


def _document(prediction: LabelMapPrediction, files: Sequence[Path]) -> dict[str, Any]:
    picture, label_map = files or (None, None)
    return {
        "path": prediction.path,
        "height": prediction.height,
        "width": prediction.width,
        "classes": [asdict(share) for share in prediction.shares],
        "picture": None if picture is None else str(picture),
        "label_map": None if label_map is None else str(label_map),
    }


def _text(prediction: LabelMapPrediction, files: Sequence[Path]) -> str:
    written = ", ".join(map(str, files))
    lines = [f"  {percent(share.share):>7}  {share.name}" for share in prediction.shares]
    return "\n".join([prediction.path + (f" -> {written}" if written else ""), *lines])
