"""``foveal predict``: what is on these images?"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from foveal.cli.console import Json, UsageError, print_json, progress
from foveal.tasks.classification.network import restore
from foveal.tasks.classification.predict import Prediction, predict


def main(
    images: Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGE...")],
    *,
    checkpoint: Path,
    model: str | None = None,
    size: int | None = None,
    top_k: int = 5,
    json: Json = False,
) -> None:
    """The most probable classes of image files.

    Args:
        images: Image files of any size and format.
        checkpoint: File with the weights: best.pt of a run, or released ones.
        model: Model in the file; a file of foveal train says it itself.
        size: Side of the square that images are fitted to, in pixels; that of training if left out.
        top_k: Classes to show for each image.
    """
    if not images:
        raise UsageError("An image is missing: foveal predict IMAGE... --checkpoint FILE.")
    if top_k < 1:
        raise UsageError(f"--top-k must be at least 1, not {top_k}.")
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
