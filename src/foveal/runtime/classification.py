"""The most probable classes of image files, by an exported classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from foveal.errors import FovealError
from foveal.runtime.guesses import Prediction, predictions
from foveal.runtime.images import preprocess
from foveal.runtime.predicting import predict_files
from foveal.runtime.session import Session
from foveal.types import Size

LOGITS = "logits"
MULTI_LABEL = "multi_label"  # among the card's settings: each class has a probability of its own


class ExportedClassifier:
    """A classifier's file as a ``Predictor``: images become (3, height, width) float32, answers ``Prediction``.

    Args:
        session: of a classifier's file.
        size: (height, width) that images are resized to; None for the size that the file was exported at.
        top_k: classes per image; None for 5, or for a multi-label classifier all above a probability of 0.5.
        batch_size: images per call; a file of a fixed batch has its own.

    Raises:
        FovealError: the exported file is of another task or size.
    """

    def __init__(
        self, session: Session, *, size: Size | None = None, top_k: int | None = None, batch_size: int = 16
    ) -> None:
        card = session.card
        if card.task != "classification":
            raise FovealError(f"{session.path} is for {card.task}, not a classifier: pass the file of one.")
        if size is not None and size != card.input.size and not card.input.any_size:
            height, width = card.input.size
            raise FovealError(
                f"{session.path} runs at {height}x{width} only, not at {size[0]}x{size[1]}: leave --size out, or "
                "export the network for any size."
            )
        self.batch_size = card.input.batch or batch_size
        self._session, self._size, self._top_k = session, size, top_k
        self._multi_label = card.settings.get(MULTI_LABEL, False)

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Return an image in RGB as an input of the file."""
        return preprocess(image, self._session.card, self._size)

    def answer(self, names: Sequence[str], batch: Sequence[np.ndarray]) -> list[Prediction]:
        """Return the most probable classes of prepared images."""
        logits, classes = self._session.run(np.stack(batch))[LOGITS], self._session.card.classes
        if logits.shape[1] != len(classes):
            raise FovealError(
                f"{self._session.path} names {len(classes)} classes, and its network has {logits.shape[1]}: export the "
                "network again."
            )
        return predictions(names, logits, classes, self._top_k, self._multi_label)


def predict(
    session: Session,
    paths: Sequence[str | Path],
    *,
    size: Size | None = None,
    top_k: int | None = None,
    batch_size: int = 16,
    on_batch: Callable[[int, int], None] | None = None,
) -> list[Prediction]:
    """Classify image files of any size and mode, in the order given.

    Args:
        session, size, top_k, batch_size: as for ``ExportedClassifier``.
        paths: image files.
        on_batch: called with (done, total) after each batch.

    Raises:
        FovealError: a file is missing or not a readable image, or the exported file is of another task or size.
    """
    return predict_files(ExportedClassifier(session, size=size, top_k=top_k, batch_size=batch_size), paths, on_batch)
