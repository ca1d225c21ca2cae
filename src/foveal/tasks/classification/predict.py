"""Predict the most probable classes of image files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from foveal.tasks.classification.data import load_rgb
from foveal.tasks.classification.network import Classifier
from foveal.tasks.network import best_device


@dataclass(frozen=True)
class Guess:
    """One class: its index among the logits, its name, and its probability between 0 and 1."""

    index: int
    name: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """An image file and its most probable classes, best first."""

    path: str
    guesses: list[Guess]


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
    predictions = []
    for done, batch in enumerate(batches, start=1):
        images = torch.stack([transform(load_rgb(path)) for path in batch])
        with torch.no_grad():
            probabilities = model(images.to(device)).float().softmax(1).cpu()
        predictions += [
            _prediction(path, row, classifier.classes, top_k) for path, row in zip(batch, probabilities, strict=True)
        ]
        if on_batch is not None:
            on_batch(done, len(batches))
    return predictions


def _prediction(path: str | Path, probabilities: torch.Tensor, classes: list[str], top_k: int) -> Prediction:
    best = probabilities.topk(min(top_k, len(classes)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return Prediction(str(path), [Guess(index, classes[index], probability) for index, probability in pairs])
