"""The most probable classes of image files, by an exported classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from foveal.errors import FovealError
from foveal.image_files import load_rgb
from foveal.runtime.guesses import Prediction, predictions
from foveal.runtime.images import preprocess
from foveal.runtime.session import Session
from foveal.types import Size

LOGITS = "logits"


def predict(
    session: Session,
    paths: Sequence[str | Path],
    *,
    size: Size | None = None,
    top_k: int = 5,
    batch_size: int = 16,
    on_batch: Callable[[int, int], None] | None = None,
) -> list[Prediction]:
    """Classify image files of any size and mode, in the order given.

    Args:
        session: of a classifier's file.
        paths: image files.
        size: (height, width) that images are resized to; None for the size that the file was exported at.
        top_k: classes per image.
        batch_size: images per call; a file of a fixed batch has its own.
        on_batch: called with (done, total) after each batch.

    Raises:
        FovealError: a file is missing or not a readable image, or the exported file is of another task or size.
    """
    card = session.card
    if card.task != "classification":
        raise FovealError(f"{session.path} is for {card.task}, not a classifier: pass the file of one.")
    if size is not None and size != card.input.size and not card.input.any_size:
        height, width = card.input.size
        raise FovealError(
            f"{session.path} runs at {height}x{width} only, not at {size[0]}x{size[1]}: leave --size out, or export "
            "the network for any size."
        )
    batch_size = card.input.batch or batch_size
    batches = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]
    found: list[Prediction] = []
    for done, batch in enumerate(batches, start=1):
        images = np.stack([preprocess(load_rgb(path), card, size) for path in batch])
        found += predictions(batch, session.run(images)[LOGITS], card.classes, top_k)
        if on_batch is not None:
            on_batch(done, len(batches))
    return found
