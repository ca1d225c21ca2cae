"""``foveal predict`` with detectors: objects, printed, drawn, and in COCO's format."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from foveal.cli.options import PredictOptions
from foveal.cli.predict_run import Tally, check_folder, run, screen_of
from foveal.models.weights_file import WeightsFile
from foveal.report.coco_file import coco_document
from foveal.report.draw import write_picture
from foveal.report.draw_objects import draw_objects
from foveal.report.picture_folder import PictureFolder, picture_folder
from foveal.runtime.predicting import Answer, Predictor
from foveal.runtime.session import Session
from foveal.tasks.detection.exported import ExportedDetector
from foveal.tasks.detection.predict import DetectionPrediction, DetectionPredictor
from foveal.tasks.detection.recipes import DetectionRecipe
from foveal.tasks.detection.task import DetectionTask
from foveal.tasks.inputs import Inputs
from foveal.wording import percent

THRESHOLD = 0.5
DETECTIONS = "detections.json"
ENDINGS = (".png",)
Found = Answer[np.ndarray, DetectionPrediction]


def predict(inputs: Inputs, weights: WeightsFile, recipe: DetectionRecipe | None, options: PredictOptions) -> Tally:
    """Detect objects on images and print them; with ``--out`` also draw them."""
    check_folder(options.out, "detector")
    known = DetectionTask.restore(weights, recipe, size=options.size)
    predictor = DetectionPredictor(known.model, known.classes, threshold=_threshold(options))
    return _predict(inputs, predictor, known.classes, known.category_ids, options)


def predict_exported(inputs: Inputs, session: Session, options: PredictOptions) -> Tally:
    """Detect objects on images with an exported file, as ``predict``."""
    check_folder(options.out, "detector")
    predictor, card = ExportedDetector(session, size=options.size, threshold=_threshold(options)), session.card
    return _predict(inputs, predictor, card.classes, card.settings.get("category_ids", ()), options)


def _threshold(options: PredictOptions) -> float:
    return THRESHOLD if options.score is None else options.score


def _predict(
    inputs: Inputs,
    predictor: Predictor[np.ndarray, DetectionPrediction],
    classes: Sequence[str],
    category_ids: Sequence[int],
    options: PredictOptions,
) -> Tally:
    with ExitStack() as stack:
        folder, writers = None, []
        if options.out is not None:
            folder = stack.enter_context(picture_folder(options.out, inputs.paths, ENDINGS))
            file = stack.enter_context((folder.stage / DETECTIONS).open("w", encoding="utf-8"))
            writers.append(stack.enter_context(coco_document(file, classes, category_ids)))
        if options.json:
            writers.append(stack.enter_context(coco_document(sys.stdout, classes, category_ids)))
        screen = stack.enter_context(screen_of("Detecting", inputs, options))

        def add(found: Found) -> None:
            picture = None if folder is None else _draw(folder, found)
            for write in writers:
                write(found.answer)
            if not options.json:
                screen.say(_text(found.answer, picture))

        return run(inputs, predictor, add, screen, options.workers)


def _draw(folder: PictureFolder, found: Found) -> Path:
    """Draw the objects on their image, in its size, and return the path that the picture will have."""
    (path,), (part,) = folder.place(found.picture)
    image = found.prepared
    write_picture(part, draw_objects(image, found.answer.objects, side=max(image.shape[:2])))
    return path


def _text(prediction: DetectionPrediction, picture: Path | None) -> str:
    lines = [prediction.path + ("" if picture is None else f" -> {picture}")]
    if not prediction.objects:
        lines.append("  nothing above the score")
    for found in prediction.objects:
        x1, y1, x2, y2 = (round(side) for side in found.box)
        lines.append(f"  {percent(100 * (found.score or 0)):>8}  {found.name:<20} {x1},{y1} to {x2},{y2}")
    return "\n".join(lines)
