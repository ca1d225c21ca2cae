"""``foveal predict`` with a classifier: the most probable classes as text and JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from foveal.cli.console import print_json, progress
from foveal.models.weights_file import WeightsFile
from foveal.tasks.classification.network import restore
from foveal.tasks.classification.predict import Prediction, predict


def predict_classes(
    images: Sequence[Path], checkpoint: WeightsFile, model: str | None, *, size: int | None, top_k: int, json: bool
) -> None:
    """Classify ``images`` and tell their most probable classes."""
    classifier = restore(checkpoint, model, size=None if size is None else (size, size))
    with progress("Predicting") as on_batch:
        predictions = predict(classifier, images, top_k=top_k, on_batch=on_batch)
    if json:
        print_json([asdict(prediction) for prediction in predictions])
    else:
        _print(predictions)


def _print(predictions: Sequence[Prediction]) -> None:
    for prediction in predictions:
        print(prediction.path)
        for guess in prediction.guesses:
            print(f"  {100 * guess.probability:5.1f} %  {guess.name}")
