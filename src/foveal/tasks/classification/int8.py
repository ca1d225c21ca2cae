"""Classifiers in int8: their calibration images, and the quantized classifier."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from foveal.errors import BrokenSample, FovealError
from foveal.models import quantize
from foveal.models.quantized import QuantizationReport, SlowInt8Warning
from foveal.tasks.classification.data import Images, open_split, source_of
from foveal.tasks.classification.network import Classifier
from foveal.tasks.held_out import HeldOut
from foveal.training.config import Broken

TRAIN = "train"
_BATCH = 32


@dataclass(frozen=True)
class CalibrationImages:
    """Images on which a classifier is calibrated.

    Attributes:
        images: the images of a split, of which some are drawn.
        place: the split's folder.
        of_training: whether these are the training images; otherwise they are among those that are evaluated.
        count: number of images to draw, evenly from the whole split.
        broken: "stop" at an image that cannot be read, or "skip" it.
    """

    images: Images
    place: str
    of_training: bool
    count: int
    broken: Broken = "stop"

    @classmethod
    def find(
        cls, data: Path, evaluated: Path, count: int, broken: Broken = "stop", held_out: HeldOut | None = None
    ) -> "CalibrationImages":
        """Return the images of ``data/train``, or if there is no such split, those in the folder ``evaluated``; of a
        folder without a split those that were not ``held_out``.

        Raises:
            FovealError: the images cannot be used.
        """
        folder, of_training = data / TRAIN, True
        try:
            source_of(data, held_out).check(TRAIN)
        except FovealError:
            folder, of_training = evaluated, False
        place = source_of(folder.parent, held_out).place(folder.name)
        images = open_split(folder.parent, folder.name, held_out=held_out)
        return cls(images, place, of_training, count, broken)

    def batches(self, classifier: Classifier) -> list[Tensor]:
        """Return the drawn images as the classifier takes them, in batches (B, 3, H, W).

        Raises:
            FovealError: an image is broken, or all are.
        """
        drawn = min(self.count, len(self.images))
        transform = classifier.fit.transform()
        tensors = []
        for i in range(drawn):
            try:
                tensors.append(transform(self.images.load(i * len(self.images) // drawn)))
            except BrokenSample:
                if self.broken == "stop":
                    raise
        if not tensors:
            raise FovealError(f"{self.place} has no image to calibrate on: put images into it.")
        return list(torch.stack(tensors).split(_BATCH))


def quantized(classifier: Classifier, calibration: CalibrationImages) -> tuple[Classifier, QuantizationReport]:
    """Return the classifier with its products in int8, and what was done.

    Raises:
        FovealError: its network cannot be quantized, or an image is broken.
    """
    model = classifier.model.cpu().eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches = calibration.batches(classifier)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SlowInt8Warning)  # commands say so in their own words
            model = quantize(model, batches)
    except ValueError as error:
        raise FovealError(f"This network cannot be quantized ({error}): leave --precision int8 out.") from error
    return replace(classifier, model=model), cast(QuantizationReport, model.quantization)
