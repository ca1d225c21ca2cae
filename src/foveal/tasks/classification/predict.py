"""Predict the most probable classes of image files, and their pooled features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from foveal.errors import FovealError
from foveal.models.folded import can_fold, optimize
from foveal.runtime.guesses import Guess, Prediction, predictions
from foveal.runtime.images import check_narrow
from foveal.runtime.predicting import predict_files
from foveal.tasks.classification.network import Classifier
from foveal.tasks.network import best_device

__all__ = ["ClassPredictor", "FeaturePredictor", "Featured", "Guess", "Prediction", "predict"]


class ClassPredictor:
    """A classifier as a ``Predictor``: images become normalised tensors, answers ``Prediction``.

    Args:
        classifier: its network is moved to ``device`` and set to evaluation mode.
        top_k: classes per image; None for 5, or for a multi-label classifier all above a probability of 0.5.
        batch_size: images per call.
        device: None for the best one.
        fold: whether to fold the network first, as ``foveal.optimize`` does, if it can be; faster for many images.
    """

    def __init__(
        self,
        classifier: Classifier,
        *,
        top_k: int | None = None,
        batch_size: int = 16,
        device: torch.device | None = None,
        fold: bool = False,
    ) -> None:
        self.batch_size = batch_size
        self._device = device or best_device()
        model = classifier.model.to(self._device).eval()
        self._model: Any = optimize(model) if fold and can_fold(model) else model
        self._fit, self._transform = classifier.fit, classifier.fit.transform()
        self._classes, self._top_k, self._multi_label = classifier.classes, top_k, classifier.multi_label

    def prepare(self, image: Image.Image) -> Tensor:
        """Return an image in RGB as an input of the network, (3, height, width)."""
        if not self._fit.takes_whole_image:
            short = int(min(self._fit.size) / self._fit.crop)
            check_narrow(short, short * max(image.size) // min(image.size))
        return self._transform(image)

    @torch.no_grad()
    def answer(self, names: Sequence[str], batch: Sequence[Tensor]) -> list[Prediction]:
        """Return the most probable classes of prepared images."""
        return self._predictions(names, self._model(self._images(batch)))

    def _images(self, batch: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(batch)).to(self._device)

    def _predictions(self, names: Sequence[str], logits: Tensor) -> list[Prediction]:
        return predictions(names, logits.float().cpu().numpy(), self._classes, self._top_k, self._multi_label)


@dataclass(frozen=True, eq=False)
class Featured:
    """A prediction, and the pooled feature of the image that the classes were computed from, (C,) float32."""

    prediction: Prediction
    feature: np.ndarray


class FeaturePredictor(ClassPredictor):
    """A classifier whose answers are ``Featured``; one pass through the network computes both."""

    @torch.no_grad()
    def answer(self, names: Sequence[str], batch: Sequence[Tensor]) -> list[Featured]:  # type: ignore[override]
        """Return classes and pooled features of prepared images.

        Raises:
            FovealError: the network has no pooled feature.
        """
        maps = self._model.forward_features(self._images(batch))
        pooled = cast(Tensor, self._model.forward_head(maps, pre_logits=True))
        if pooled.ndim != 2:
            raise FovealError(
                f"{type(self._model).__name__} does not pool its features to one vector: leave --features out."
            )
        found = self._predictions(names, self._model.forward_head(maps))
        return [Featured(*pair) for pair in zip(found, pooled.float().cpu().numpy(), strict=True)]


def predict(
    classifier: Classifier,
    paths: Sequence[str | Path],
    *,
    top_k: int | None = None,
    batch_size: int = 16,
    device: torch.device | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> list[Prediction]:
    """Classify image files of any size and mode, on ``device`` (None: the best one), in the order given.

    Raises:
        FovealError: a file is missing or not a readable image.
    """
    predictor = ClassPredictor(classifier, top_k=top_k, batch_size=batch_size, device=device)
    return predict_files(predictor, paths, on_batch)
