"""Label maps predicted for image files, and label map files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from foveal.errors import FovealError
from foveal.files import atomic_file
from foveal.image_files import load_rgb
from foveal.tasks.network import best_device
from foveal.tasks.segmentation.inference import WHOLE, Inference, label_map
from foveal.tasks.segmentation.segmenter import Segmenter


@dataclass(frozen=True)
class ClassShare:
    """A class that occurs in an image, and its share of the pixels, above 0 and at most 1."""

    label: int
    name: str
    share: float


@dataclass(frozen=True, eq=False)
class LabelMapPrediction:
    """The label map predicted for an image file of ``height`` x ``width`` pixels.

    Attributes:
        labels: (height, width) uint8, the class index of each pixel, from 0.
        shares: the classes that occur, in descending order of their share.
    """

    path: str
    height: int
    width: int
    labels: np.ndarray
    shares: list[ClassShare]


def predict(
    segmenter: Segmenter,
    classes: Sequence[str],
    paths: Sequence[str | Path],
    *,
    inference: Inference = WHOLE,
    device: torch.device | None = None,
    on_batch: Callable[[int, int], None] | None = None,
    on_image: Callable[[LabelMapPrediction, np.ndarray], None] | None = None,
) -> list[LabelMapPrediction]:
    """Predict the label maps of image files of any size and mode.

    Images are turned upright as their EXIF orientation says, and processed one at a time in the order given.

    Args:
        segmenter: moved to ``device`` and set to evaluation mode.
        classes: name of each label.
        paths: image files.
        inference: how images are fed to the segmenter.
        device: None for the best one.
        on_batch: called with (done, total) after each image.
        on_image: called with each prediction and its image, (height, width, 3) uint8.

    Raises:
        FovealError: a file is missing or not a readable image, the number of classes differs from the segmenter's, or
            its scores are NaN.
    """
    if len(classes) != segmenter.num_classes:
        raise FovealError(f"The segmenter has {segmenter.num_classes} classes, and {len(classes)} names were given.")
    device = device or best_device()
    model = segmenter.to(device).eval()
    predictions = []
    for done, path in enumerate(paths, start=1):
        image = np.array(load_rgb(path))
        pixels = torch.from_numpy(image).to(device)
        labels = label_map(model, pixels.permute(2, 0, 1).float() / 255, inference)
        array = labels.cpu().numpy().astype(np.uint8)
        height, width = array.shape
        predictions.append(LabelMapPrediction(str(path), height, width, array, class_shares(array, classes)))
        if on_image is not None:
            on_image(predictions[-1], image)
        if on_batch is not None:
            on_batch(done, len(paths))
    return predictions


def class_shares(labels: np.ndarray, classes: Sequence[str]) -> list[ClassShare]:
    """Return the classes of a label map (H, W) of integers, in descending order of their share."""
    counts = np.bincount(labels.ravel(), minlength=len(classes))
    order = np.argsort(-counts, kind="stable")
    return [ClassShare(int(at), classes[at], counts[at] / labels.size) for at in order if counts[at]]


def write_label_map(path: Path, labels: np.ndarray) -> None:
    """Write a label map (H, W), uint8, as a grey PNG: each pixel's value is its class index, from 0.

    This also holds for a segmenter trained on label maps with 0 for ignored pixels (``zero_ignored``): in ADE20K's own
    files, each class has the next number.

    Raises:
        FovealError: the file cannot be written; an existing file is left untouched.
        ValueError: another dtype or number of dimensions.
    """
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise ValueError(f"a label map must be (height, width) uint8, not {labels.dtype} {labels.shape}")
    with atomic_file(path) as part:
        Image.fromarray(labels).save(part, format="PNG")
