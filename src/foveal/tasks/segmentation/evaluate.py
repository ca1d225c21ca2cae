"""Evaluation of a segmenter on a dataset: each image once over all processes, the same scores on each of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from foveal.errors import FovealError
from foveal.tasks.finished import Middle
from foveal.tasks.network import best_device
from foveal.tasks.segmentation.inference import BrokenScores, Inference, label_map
from foveal.tasks.segmentation.metrics import ConfusionMatrix, SegmentationScores
from foveal.tasks.segmentation.segmenter import Segmenter
from foveal.training.loading import Loader, all_broken
from foveal.training.processes import Processes, to_device


class ImageScore(NamedTuple):
    """The scores of one image, in percent.

    Attributes:
        place: of the image in the data set.
        accuracy: share of its labelled pixels that are classified correctly.
        miou: mean IoU over the classes that are labelled or predicted in it.
    """

    place: int
    accuracy: float
    miou: float


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
        each: scores of each image that has a labelled pixel, in the order of the images.
    """

    scores: SegmentationScores
    classes: list[str]
    images: int
    broken: list[str]
    images_per_second: float
    counts: Tensor = field(compare=False)
    each: list[ImageScore] = field(default_factory=list, compare=False)

    @property
    def worst(self) -> list[ImageScore]:
        """The images by their mean IoU, the worst first."""
        return sorted(self.each, key=lambda one: one.miou)

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
    images: int = 0
    each: list[ImageScore] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    failure: str | None = None

    def add(self, place: int, predicted: Tensor, labels: Tensor) -> None:
        """Count an image."""
        own = ConfusionMatrix(self.confusion.num_classes)
        own.add(predicted, labels)
        self.confusion.counts += own.counts
        self.images += 1
        if own.counts.any():
            scores = own.scores()
            self.each.append(ImageScore(place, scores.aacc, scores.miou))

    def state(self) -> dict[str, Any]:
        """Return what was counted so far, for ``going_on``."""
        return {"counts": self.confusion.counts, "images": self.images, "each": [tuple(one) for one in self.each]}

    @classmethod
    def going_on(cls, classes: int, middle: Middle) -> "_Share":
        """Return what was counted before the evaluation was stopped, or nothing."""
        share = cls(ConfusionMatrix(classes))
        if middle.state is not None:
            share.confusion.counts, share.images = middle.state["counts"], middle.state["images"]
            share.each = [ImageScore(*one) for one in middle.state["each"]]
        return share


def evaluate_segmenter(
    model: Segmenter,
    loader: Loader,
    classes: Sequence[str],
    inference: Inference,
    processes: Processes | None = None,
    device: torch.device | None = None,
    on_batch: Callable[[int, int], None] | None = None,
    middle: Middle | None = None,
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
        middle: where an evaluation that was stopped goes on, as the ``loader`` does, and is kept.

    Raises:
        FovealError: no image could be read, all pixels are ignored, scores are NaN, or the number of classes differs
            from the segmenter's.
    """
    if len(classes) != model.num_classes:
        raise FovealError(f"The segmenter has {model.num_classes} classes and the images have {len(classes)}.")
    place, middle = processes.device if processes else device or best_device(), middle or Middle()
    own = _count(model, loader, inference, place, on_batch, middle)
    shares = [own] if processes is None else processes.gather_objects([own])
    # From here on all processes hold the same values, so they raise the same error or none.
    failure = next((share.failure for share in shares if share.failure), None)
    if failure is not None:
        raise FovealError(failure)
    images, broken = sum(share.images for share in shares), sorted(name for share in shares for name in share.broken)
    if not images:
        raise all_broken(broken)
    confusion = sum((share.confusion for share in shares), ConfusionMatrix(model.num_classes))
    scores, speed = confusion.scores(), images / middle.elapsed
    each = sorted(one for share in shares for one in share.each)
    return SegmentationEvaluation(scores, list(classes), images, broken, speed, confusion.counts, each)


def _count(
    model: Segmenter,
    loader: Loader,
    inference: Inference,
    device: torch.device,
    on_batch: Callable[[int, int], None] | None,
    middle: Middle,
) -> _Share:
    """Count the pixels of this process's share; stop at the first image whose scores are NaN."""
    share = _Share.going_on(model.num_classes, middle)
    for done, batch in enumerate(loader, start=loader.batches_before + 1):
        for image, labels in zip(*to_device(batch, device, channels_last=False), strict=True):
            try:
                share.add(loader.order[loader.seen - 1], label_map(model, image, inference), labels)
            except BrokenScores as error:
                share.failure = str(error)
                break
        if share.failure is not None:
            break
        middle.offer(share.state, loader.progress)
        if on_batch is not None:
            on_batch(done, len(loader))
    share.broken = list(loader.broken)
    return share
