"""Detect objects on image files with an exported detector."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from foveal.image_files import load_rgb
from foveal.runtime.detection import Evaluation, detect
from foveal.runtime.session import Session
from foveal.tasks.detection.predict import DetectionPrediction, detected_objects


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
        session: of a detector's file.
        size: short side that images are resized to, in pixels; None for what the file says.
        paths, threshold, on_batch, on_image: as there.

    Raises:
        FovealError: an image is missing or not readable, or the exported file is of another task or size, or fails.
    """
    evaluation = Evaluation.of(session.card)
    if size is not None and size != evaluation.short:
        session.check_any_size()
        evaluation = evaluation.sized(size)
    predictions = []
    for done, path in enumerate(paths, start=1):
        image = np.array(load_rgb(path))
        found = {name: torch.from_numpy(array) for name, array in asdict(detect(session, image, evaluation)).items()}
        height, width, _ = image.shape
        objects = detected_objects(found, session.card.classes, threshold)
        predictions.append(DetectionPrediction(str(path), height, width, objects))
        if on_image is not None:
            on_image(predictions[-1], image)
        if on_batch is not None:
            on_batch(done, len(paths))
    return predictions
