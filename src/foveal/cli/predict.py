"""``foveal predict``: what is on these images?"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from foveal.cli.console import Json, UsageError, print_json, progress
from foveal.cli.predict_objects import predict_objects
from foveal.tasks.classification.network import restore
from foveal.tasks.classification.predict import Prediction, predict
from foveal.tasks.detection.recipe import DetectionRecipe
from foveal.tasks.detection.recipes import RECIPES as DETECTORS
from foveal.tasks.detection.recipes import get_recipe
from foveal.training.checkpoint import read_card

TOP_K, THRESHOLD = 5, 0.5


def main(
    images: Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGE...")],
    *,
    checkpoint: Path,
    model: str | None = None,
    size: int | None = None,
    top_k: int | None = None,
    score: float | None = None,
    out: Path | None = None,
    json: Json = False,
) -> None:
    """What is on image files: the most probable classes, or objects with their boxes and masks, by what the file of
    weights holds.

    Args:
        images: Image files of any size and format.
        checkpoint: File with the weights: best.pt of a run, or released ones.
        model: Model in the file, or of a released detector its recipe (coco.NAME); a file of foveal train says it
            itself.
        size: Side of the square that images are fitted to, in pixels, of a detector their short side; that of training
            if left out.
        top_k: Of a classifier: classes to show for each image; 5 if left out.
        score: Of a detector: objects below this score, from 0 to 1, are not shown; 0.5 if left out.
        out: Of a detector: folder for a picture of each image and for detections.json in COCO's format.
    """
    if not images:
        raise UsageError("An image is missing: foveal predict IMAGE... --checkpoint FILE.")
    if top_k is not None and top_k < 1:
        raise UsageError(f"--top-k must be at least 1, not {top_k}.")
    if score is not None and not 0 <= score <= 1:
        raise UsageError(f"--score must be from 0 to 1, not {score}.")
    if _is_detector(checkpoint, model):
        _refuse({"--top-k": top_k}, "classifiers", "detector")
        recipe = None if model is None else get_recipe(model)
        threshold = THRESHOLD if score is None else score
        predict_objects(images, checkpoint, recipe, size=size, threshold=threshold, out=out, json=json)
    else:
        _refuse({"--score": score, "--out": out}, "detectors", "classifier")
        _classify(images, checkpoint, model, size, TOP_K if top_k is None else top_k, json)


def _is_detector(checkpoint: Path, model: str | None) -> bool:
    """Whether the file says that it holds a detector, or says nothing and the user names a detector's recipe."""
    card = read_card(checkpoint)
    if card is None:
        return model in DETECTORS
    is_detector = card.get("task") == DetectionRecipe.kind
    if model is not None and (is_detector or model in DETECTORS):
        raise UsageError(f"{checkpoint} says itself what it holds: leave --model out.")
    return is_detector


def _refuse(options: dict[str, object], kind: str, found: str) -> None:
    for option, value in options.items():
        if value is not None:
            raise UsageError(f"{option} is for {kind}, and this file holds a {found}: leave it out.")


def _classify(
    images: tuple[Path, ...], checkpoint: Path, model: str | None, size: int | None, top_k: int, json: bool
) -> None:
    classifier = restore(checkpoint, model, size=None if size is None else (size, size))
    with progress("Predicting") as on_batch:
        predictions = predict(classifier, images, top_k=top_k, on_batch=on_batch)
    if json:
        print_json([asdict(prediction) for prediction in predictions])
    else:
        _print_table(predictions)


def _print_table(predictions: list[Prediction]) -> None:
    for prediction in predictions:
        print(prediction.path)
        for guess in prediction.guesses:
            print(f"  {100 * guess.probability:5.1f} %  {guess.name}")
