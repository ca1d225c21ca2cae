"""Detect objects on image files with an exported detector."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from foveal.runtime.detection import Evaluation, detect
from foveal.runtime.predicting import predict_files
from foveal.runtime.session import Session
from foveal.tasks.detection.predict import DetectionPrediction, described, detected_objects


class ExportedDetector:
    """A detector's file as a ``Predictor``, as ``foveal.tasks.detection.predict.DetectionPredictor``.

    Args:
        session: of a detector's file.
        size: short side that images are resized to, in pixels; None for what the file says.
        threshold: objects with a lower score are left out.

    Raises:
        FovealError: the exported file is of another task or size.
    """

    batch_size = 1

    def __init__(self, session: Session, *, size: int | None = None, threshold: float = 0.5) -> None:
        evaluation = Evaluation.of(session.card)
        if size is not None and size != evaluation.short:
            session.check_any_size()
            evaluation = evaluation.sized(size)
        self._session, self._evaluation, self._threshold = session, evaluation, threshold

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Return the pixels of an image in RGB, (height, width, 3) uint8."""
        return np.array(image)

    def answer(self, names: Sequence[str], batch: Sequence[np.ndarray]) -> list[DetectionPrediction]:
        """Return the objects on each image."""
        return [self._one(name, image) for name, image in zip(names, batch, strict=True)]

    def _one(self, name: str, image: np.ndarray) -> DetectionPrediction:
        arrays = asdict(detect(self._session, image, self._evaluation))
        found = {key: torch.from_numpy(array) for key, array in arrays.items()}
        objects = detected_objects(found, self._session.card.classes, self._threshold)
        return described(name, image, objects)


def predict(
    session: Session,
    paths: Sequence[str | Path],
    *,
    size: int | None = None,
    threshold: float = 0.5,
    on_batch: Callable[[int, int], None] | None = None,
    on_image: Callable[[DetectionPrediction, np.ndarray], None] | None = None,
) -> list[DetectionPrediction]:
    """Detect objects on image files of any size and mode, as ``foveal.tasks.detection.predict.predict`` does.

    Args:
        session, size, threshold: as for ``ExportedDetector``.
        paths, on_batch, on_image: as there.

    Raises:
        FovealError: an image is missing or not readable, or the exported file is of another task or size, or fails.
    """
    return predict_files(ExportedDetector(session, size=size, threshold=threshold), paths, on_batch, on_image)
