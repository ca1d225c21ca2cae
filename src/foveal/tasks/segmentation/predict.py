"""Label maps predicted for image files, and label map files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from foveal.errors import FovealError
from foveal.files import atomic_file
from foveal.runtime.predicting import predict_files
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


class LabelMapPredictor:
    """A segmenter as a ``Predictor``: images become (height, width, 3) uint8, answers ``LabelMapPrediction``.

    Args:
        segmenter: moved to ``device`` and set to evaluation mode.
        classes: name of each label.
        inference: how images are fed to the segmenter.
        device: None for the best one.

    Raises:
        FovealError: the number of classes differs from the segmenter's.
    """

    batch_size = 1  # images differ in size

    def __init__(
        self,
        segmenter: Segmenter,
        classes: Sequence[str],
        *,
        inference: Inference = WHOLE,
        device: torch.device | None = None,
    ) -> None:
        if len(classes) != segmenter.num_classes:
            raise FovealError(
                f"The segmenter has {segmenter.num_classes} classes, and {len(classes)} names were given."
            )
        self._device = device or best_device()
        self._model = segmenter.to(self._device).eval()
        self._classes, self._inference = classes, inference

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Return the pixels of an image in RGB."""
        return np.array(image)

    def answer(self, names: Sequence[str], batch: Sequence[np.ndarray]) -> list[LabelMapPrediction]:
        """Return the label map of each image. Raises FovealError if scores are NaN."""
        return [described(name, self._labels(image), self._classes) for name, image in zip(names, batch, strict=True)]

    def _labels(self, image: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(image).to(self._device)
        labels = label_map(self._model, pixels.permute(2, 0, 1).float() / 255, self._inference)
        return labels.cpu().numpy().astype(np.uint8)


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
        segmenter, classes, inference, device: as for ``LabelMapPredictor``.
        paths: image files.
        on_batch: called with (done, total) after each image.
        on_image: called with each prediction and its image, (height, width, 3) uint8.

    Raises:
        FovealError: a file is missing or not a readable image, the number of classes differs from the segmenter's, or
            its scores are NaN.
    """
    predictor = LabelMapPredictor(segmenter, classes, inference=inference, device=device)
    return predict_files(predictor, paths, on_batch, on_image)


def described(name: str, labels: np.ndarray, classes: Sequence[str]) -> LabelMapPrediction:
    """Return a label map (H, W) uint8 as the prediction for the image called ``name``."""
    height, width = labels.shape
    return LabelMapPrediction(name, height, width, labels, class_shares(labels, classes))


def class_shares(labels: np.ndarray, classes: Sequence[str]) -> list[ClassShare]:
    """Return the classes of a label map (H, W) of integers, in descending order of their share."""
    counts = np.bincount(labels.ravel(), minlength=len(classes))
    order = np.argsort(-counts, kind="stable")
    return [ClassShare(int(at), classes[at], counts[at] / labels.size) for at in order if counts[at]]


def write_label_map(path: Path, labels: np.ndarray, colours: np.ndarray | None = None) -> None:
    """Write a label map (H, W), uint8, as a PNG: each pixel's value is its class index, from 0.

    This also holds for a segmenter trained on label maps with 0 for ignored pixels (``zero_ignored``): in ADE20K's own
    files, each class has the next number.

    Args:
        colours: (C, 3) uint8, the palette that programs show the indices in. Pillow still reads the indices, as of
            Pascal VOC's label maps. None for a grey PNG, which looks black.

    Raises:
        FovealError: the file cannot be written; an existing file is left untouched.
        ValueError: another dtype or number of dimensions.
    """
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise ValueError(f"a label map must be (height, width) uint8, not {labels.dtype} {labels.shape}")
    image = Image.fromarray(labels)
    if colours is not None:
        image.putpalette(colours.astype(np.uint8).tobytes())
    with atomic_file(path) as part:
        image.save(part, format="PNG")
