"""Predict the most probable classes of image files."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from foveal.image_files import load_rgb
from foveal.runtime.guesses import Guess, Prediction, predictions
from foveal.tasks.classification.network import Classifier
from foveal.tasks.network import best_device

__all__ = ["Guess", "Prediction", "predict"]


def predict(
    classifier: Classifier,
    paths: Sequence[str | Path],
    *,
    top_k: int = 5,
    batch_size: int = 16,
    device: torch.device | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> list[Prediction]:
    """Classify image files of any size and mode, on ``device`` (None: the best one), in the order given.

    Raises:
        FovealError: a file is missing or not a readable image.
    """
    device = device or best_device()
    model = classifier.model.to(device).eval()
    transform = classifier.fit.transform()
    batches = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]
    found = []
    for done, batch in enumerate(batches, start=1):
        images = torch.stack([transform(load_rgb(path)) for path in batch])
        with torch.no_grad():
            logits = model(images.to(device)).float().cpu().numpy()
        found += predictions(batch, logits, classifier.classes, top_k)
        if on_batch is not None:
            on_batch(done, len(batches))
    return found
