"""Label maps of image files by an exported segmenter."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from foveal.image_files import load_rgb
from foveal.runtime.segmentation import inference_of, label_map
from foveal.runtime.session import Session
from foveal.tasks.segmentation.predict import LabelMapPrediction, class_shares


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
        session: of a segmenter's file.
        size: side of the training crops in pixels, to which all sizes are in proportion; None for the size of training.
        paths, on_batch, on_image: as there.

    Raises:
        FovealError: an image is missing or not readable, or the exported file is of another task or size, or fails.
    """
    card = session.card
    inference = inference_of(card)
    if size is not None and size != card.settings["crop"]:
        session.check_any_size()
        inference = inference.scaled(size / card.settings["crop"])
    predictions = []
    for done, path in enumerate(paths, start=1):
        image = np.array(load_rgb(path))
        labels = label_map(session, image, inference)
        shares = class_shares(labels, card.classes)
        height, width = labels.shape
        predictions.append(LabelMapPrediction(str(path), height, width, labels, shares))
        if on_image is not None:
            on_image(predictions[-1], image)
        if on_batch is not None:
            on_batch(done, len(paths))
    return predictions
