"""Label maps of image files by an exported segmenter."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from foveal.runtime.predicting import predict_files
from foveal.runtime.segmentation import inference_of, label_map
from foveal.runtime.session import Session
from foveal.tasks.segmentation.predict import LabelMapPrediction, described


class ExportedSegmenter:
    """A segmenter's file as a ``Predictor``, as ``foveal.tasks.segmentation.predict.LabelMapPredictor``.

    Args:
        session: of a segmenter's file.
        size: side of the training crops in pixels, to which all sizes are in proportion; None for the size of training.

    Raises:
        FovealError: the exported file is of another task or size.
    """

    batch_size = 1

    def __init__(self, session: Session, *, size: int | None = None) -> None:
        card = session.card
        inference = inference_of(card)
        if size is not None and size != card.settings["crop"]:
            session.check_any_size()
            inference = inference.scaled(size / card.settings["crop"])
        self._session, self._inference = session, inference

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Return the pixels of an image in RGB, (height, width, 3) uint8."""
        return np.array(image)

    def answer(self, names: Sequence[str], batch: Sequence[np.ndarray]) -> list[LabelMapPrediction]:
        """Return the label map of each image."""
        classes = self._session.card.classes
        return [
            described(name, label_map(self._session, image, self._inference), classes)
            for name, image in zip(names, batch, strict=True)
        ]


def predict(
    session: Session,
    paths: Sequence[str | Path],
    *,
    size: int | None = None,
    on_batch: Callable[[int, int], None] | None = None,
    on_image: Callable[[LabelMapPrediction, np.ndarray], None] | None = None,
) -> list[LabelMapPrediction]:
    """Predict the label maps of image files, as ``foveal.tasks.segmentation.predict.predict`` does.

    Args:
        session, size: as for ``ExportedSegmenter``.
        paths, on_batch, on_image: as there.

    Raises:
        FovealError: an image is missing or not readable, or the exported file is of another task or size, or fails.
    """
    return predict_files(ExportedSegmenter(session, size=size), paths, on_batch, on_image)
