"""Evaluation of a segmenter on a dataset: each image once over all processes, the same scores on each of them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from foveal.errors import FovealError
from foveal.tasks.network import best_device
from foveal.tasks.segmentation.inference import BrokenScores, Inference, label_map
from foveal.tasks.segmentation.metrics import ConfusionMatrix, SegmentationScores
from foveal.tasks.segmentation.segmenter import Segmenter
from foveal.training.loading import Loader, all_broken
from foveal.training.processes import Processes, to_device


@dataclass(frozen=True)
class SegmentationEvaluation:
    """Scores of a segmenter on N images; the same on every process.

    Attributes:
        scores: overall and per class.
        classes: class names, in the order of ``scores``.
        images: N, the number of images that could be read.
        broken: names of unreadable images, which are not counted.
        images_per_second: over the whole evaluation, including loading and counting.
        counts: (classes, classes) int64, pixels by labelled class (row) and predicted class (column).
    """

    scores: SegmentationScores
    classes: list[str]
    images: int
    broken: list[str]
    images_per_second: float
    counts: Tensor = field(compare=False)

    @property
    def metrics(self) -> dict[str, float]:
        """Overall scores in percent: ``miou``, ``macc`` and ``aacc``."""
        return self.scores.metrics

    @property
    def absent(self) -> list[str]:
        """Names of the classes without a labelled pixel."""
        return [name for name, pixels in zip(self.classes, self.scores.pixels, strict=True) if not pixels]

    @property
    def document(self) -> dict[str, Any]:
        """Scores in plain types, as in results.json; a score that a class does not have is None.

        ``scored_classes`` (also as ``miou_classes``) and ``macc_classes`` say how many classes the means are over, and
        ``classes_without_examples`` (also as ``absent``) names those without a labelled pixel.
        """
        rows = zip(self.classes, self.scores.iou, self.scores.accuracy, self.scores.pixels, strict=True)
        classes = [{"name": name, "iou": iou, "accuracy": acc, "pixels": pixels} for name, iou, acc, pixels in rows]
        counts = {"images": self.images, "broken": len(self.broken), "broken_names": self.broken}
        scored, without = self.scores.scored, {"classes_without_examples": self.absent, "absent": self.absent}
        over = {"scored_classes": scored, "miou_classes": scored, "macc_classes": self.scores.measured}
        return {
            **self.metrics,
            **over,
            **without,
            "classes": classes,
            **counts,
            "images_per_second": self.images_per_second,
        }


@dataclass
class _Share:
    """Counts of one process on its share of the images."""

    confusion: ConfusionMatrix
    images: int
    broken: list[str]
    failure: str | None = None


def evaluate_segmenter(
    model: Segmenter,
    loader: Loader,
    classes: Sequence[str],
    inference: Inference,
    processes: Processes | None = None,
    device: torch.device | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> SegmentationEvaluation:
    """Run a segmenter over all images of ``loader`` and compute its scores.

    For mixed precision, call it within ``processes.autocast(precision)``.

    Args:
        model: in evaluation mode, on its device.
        loader: this process's share, in batches of one image: (1, 3, H, W) float in [0, 1] and labels (1, H, W) int64,
            both in the image's own size, in which pixels are counted.
        classes: name of each class.
        inference: how images are fed to the model.
        processes: processes that share the images; None for this one alone.
        device: device if ``processes`` is None; None for the best one.
        on_batch: called with (done, total) after each batch.

    Raises:
        FovealError: no image could be read, all pixels are ignored, scores are NaN, or the number of classes differs
            from the segmenter's.
    """
    if len(classes) != model.num_classes:
        raise FovealError(f"The segmenter has {model.num_classes} classes and the images have {len(classes)}.")
    place, started = processes.device if processes else device or best_device(), time.monotonic()
    own = _count(model, loader, inference, place, on_batch)
    shares = [own] if processes is None else processes.gather_objects([own])
    # From here on all processes hold the same values, so they raise the same error or none.
    failure = next((share.failure for share in shares if share.failure), None)
    if failure is not None:
        raise FovealError(failure)
    images, broken = sum(share.images for share in shares), sorted(name for share in shares for name in share.broken)
    if not images:
        raise all_broken(broken)
    confusion = sum((share.confusion for share in shares), ConfusionMatrix(model.num_classes))
    scores, speed = confusion.scores(), images / (time.monotonic() - started)
    return SegmentationEvaluation(scores, list(classes), images, broken, speed, confusion.counts)


def _count(
    model: Segmenter,
    loader: Loader,
    inference: Inference,
    device: torch.device,
    on_batch: Callable[[int, int], None] | None,
) -> _Share:
    """Count the pixels of this process's share; stop at the first image whose scores are NaN."""
    confusion, images = ConfusionMatrix(model.num_classes), 0
    for done, batch in enumerate(loader, start=1):
        for image, labels in zip(*to_device(batch, device, channels_last=False), strict=True):
            try:
                confusion.add(label_map(model, image, inference), labels)
            except BrokenScores as error:
                return _Share(confusion, images, list(loader.broken), str(error))
            images += 1
        if on_batch is not None:
            on_batch(done, len(loader))
    return _Share(confusion, images, list(loader.broken))
