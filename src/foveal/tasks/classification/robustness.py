"""The robustness of a classifier on images of one's own: its errors under ImageNet-C's corruptions.

As in ImageNet-C (Hendrycks and Dietterich 2019, arXiv:1903.12261), an image is first resized and cropped to the
network's size, and then corrupted. This is done on the fly; an image is corrupted alike in every evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image

from foveal.errors import FovealError
from foveal.tasks.classification.corruption_library import SMALLEST, CorruptionLibrary
from foveal.tasks.classification.data import Images
from foveal.tasks.classification.evaluate import EvaluationSettings, finished_score
from foveal.tasks.classification.network import Classifier
from foveal.tasks.classification.preprocessing import Preprocessing
from foveal.tasks.classification.score import Score
from foveal.tasks.finished import Finished
from foveal.tasks.total import Advance, Total
from foveal.training.loading import continues
from foveal.training.sampling import mix


class CorruptedImages(Images):
    """Images as the network sees them, with one corruption at one severity."""

    def __init__(
        self, images: Images, fit: Preprocessing, library: CorruptionLibrary, name: str, severity: int
    ) -> None:
        super().__init__(images.classes, images.names, images.targets)
        self.images, self.library, self.corruption, self.severity = images, library, name, severity
        self.shape, self.transform = fit.halves()
        self._corrupted(np.zeros((*fit.size, 3), np.uint8), 0)  # what it compiles is compiled once for all processes

    def load(self, index: int) -> Image.Image:
        """Return the corrupted image of the network's size."""
        pixels = np.asarray(self.shape(self.images.load(index)))
        return Image.fromarray(self._corrupted(pixels, mix(self.corruption, self.severity, index)))

    def _corrupted(self, pixels: np.ndarray, seed: int) -> np.ndarray:
        return self.library.apply(pixels, self.corruption, self.severity, seed)


@dataclass(frozen=True)
class Robustness:
    """Top-1 errors under corruptions, in percent.

    Attributes:
        package, version: what computed the corruptions.
        clean: the score on the images as they are.
        errors: by corruption and severity.
    """

    package: str
    version: str
    clean: Score
    errors: dict[str, dict[int, float]]

    @property
    def clean_error(self) -> float:
        """Error on the images as they are."""
        return 100.0 - self.clean.top1

    @property
    def means(self) -> dict[str, float]:
        """Mean error over severities, by corruption."""
        return {name: fmean(errors.values()) for name, errors in self.errors.items()}

    @property
    def mean_error(self) -> float:
        """Mean corruption error, without ImageNet-C's division by AlexNet's errors."""
        return fmean(self.means.values())

    @property
    def severities(self) -> list[int]:
        return list(next(iter(self.errors.values())))

    def document(self) -> dict[str, Any]:
        """Return the figures in plain types."""
        return {
            "package": self.package,
            "version": self.version,
            "images": self.clean.images,
            "clean_error": self.clean_error,
            "errors": {name: {str(at): error for at, error in found.items()} for name, found in self.errors.items()},
            "mean_errors": self.means,
            "mean_corruption_error": self.mean_error,
            "above_clean": self.mean_error - self.clean_error,
            "relative_to_alexnet": False,
            "broken": self.clean.broken,
            "broken_names": list(self.clean.broken_names),
        }


def check_corruptible(images: Images, fit: Preprocessing) -> None:
    """Raise FovealError for images that cannot be corrupted at the network's size."""
    if not continues(images):
        raise FovealError("--corrupt is for images in folders or local shards: pass such a --data.")
    if min(fit.size) < SMALLEST:
        raise FovealError(f"Images are corrupted from {SMALLEST} pixels up, not at {min(fit.size)}: pass --size.")


def measure_robustness(
    classifier: Classifier,
    images: Images,
    library: CorruptionLibrary,
    corruptions: Sequence[str],
    severities: Sequence[int],
    settings: EvaluationSettings,
    finished: Finished,
    advance: Advance,
    part: dict[str, Any],
) -> Robustness:
    """Evaluate a classifier on images as they are, and under every corruption at every severity.

    Args:
        images: of the classifier's classes.
        finished: what was finished before is not evaluated again.
        advance: shows how far the whole is.
        part: what identifies the evaluation of the images as they are among the finished ones.

    Raises:
        FovealError: images cannot be corrupted at this size, or one is broken.
    """
    check_corruptible(images, classifier.fit)
    total = Total(advance, 1.0 + len(corruptions) * len(severities), 1 + len(corruptions) * len(severities))
    images.transform = classifier.fit.transform()
    clean = finished_score(finished, part, classifier, images, None, settings, total.part("as they are", 1.0))
    total.end(1.0)
    errors: dict[str, dict[int, float]] = {}
    for name in corruptions:
        for severity in severities:
            on_batch = total.part(f"{name.replace('_', ' ')}, severity {severity}", 1.0)
            own = {**part, "corruption": name, "severity": severity, "by": [library.package, library.version]}
            corrupted = CorruptedImages(images, classifier.fit, library, name, severity)
            found = finished_score(finished, own, classifier, corrupted, None, settings, on_batch, answers=False)
            errors.setdefault(name, {})[severity] = 100.0 - found.top1
            total.end(1.0)
    return Robustness(library.package, library.version, clean, errors)
