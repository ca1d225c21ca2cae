"""What ``foveal export`` makes of detectors and segmenters: the network of an image, and what its file says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.export import Subject
from foveal.export.program import SIZE, SMALLEST
from foveal.models.weights_file import WeightsFile
from foveal.runtime.card import Resizing
from foveal.runtime.detection import BOXES, Evaluation
from foveal.runtime.detection import SCORES as OF_BOXES
from foveal.runtime.segmentation import SCORES
from foveal.tasks.dense.model import DenseModel
from foveal.tasks.detection.retinanet import BEFORE, RetinaNet
from foveal.tasks.detection.task import DetectionTask, TrainedDetector
from foveal.tasks.registry import noun
from foveal.tasks.segmentation.segmenter import PixelSegmenter
from foveal.tasks.segmentation.task import SegmentationTask, TrainedSegmenter
from foveal.types import Size

Channels = tuple[float, ...]


class ScoredBoxes(nn.Module):
    """The box of every anchor (1, A, 4) and its scores (1, A, classes) on an image (1, 3, H, W)."""

    def __init__(self, detector: RetinaNet) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.detector.scored_boxes(images)


class PixelScores(nn.Module):
    """The scores of every pixel (B, classes, H, W) of images (B, 3, H, W)."""

    def __init__(self, segmenter: PixelSegmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.segmenter.dense_pass(images)
        return found


def subject_of(
    kind: str, weights: WeightsFile, recipe: Any, size: Size | None, dynamic: Sequence[str], batch: int, precision: str
) -> Subject:
    """Return the detector or segmenter in a file as what is exported.

    Args:
        kind: "detection" or "segmentation".
        weights, recipe: as for ``foveal predict``.
        size: (height, width) of the images; None for the size of the recipe.
        dynamic, batch, precision: as for ``foveal.export.export``.

    Raises:
        FovealError: the head, the size or the options cannot be exported; the file cannot be read.
    """
    if batch != 1 or set(dynamic) - {SIZE}:
        raise FovealError(f"A {noun(kind)} is exported for one image per call: leave --batch and --dynamic batch out.")
    if kind == "detection":
        return _detector(DetectionTask.restore(weights, recipe), size, SIZE in dynamic, precision)
    return _segmenter(SegmentationTask.restore(weights, recipe), size, SIZE in dynamic)


def _detector(known: TrainedDetector, size: Size | None, any_size: bool, precision: str) -> Subject:
    model = known.model
    if not isinstance(model, RetinaNet):
        raise FovealError(
            f"{known.name} cannot be exported: its second stage depends on what the first one finds. Of the detectors, "
            "RetinaNet can."
        )
    if precision != "fp32":
        raise FovealError(f"Boxes in {precision} are off by pixels: export the detector with --precision fp32.")
    images = model.images
    short, long, divisor = images.min_size[-1], images.max_size, images.size_divisible
    smallest = model.anchors.strides[-1] + divisor
    least = smallest if any_size else SMALLEST
    size = (_up(short, divisor, least), _up(long, divisor, least)) if size is None else size
    _check(size, divisor, least)
    evaluation = Evaluation(
        short=short,
        long=long,
        divisor=divisor,
        strides=model.anchors.strides,
        per_cell=model.anchors.per_cell,
        score=model.selection.score,
        overlap=model.selection.overlap,
        candidates=BEFORE,
        most=model.selection.most,
    )
    settings = {"head": known.name.split()[0], "evaluation": asdict(evaluation), "category_ids": known.category_ids}
    mean, std = tuple(images.image_mean), tuple(images.image_std)
    outputs = (BOXES, OF_BOXES)
    return _subject(
        ScoredBoxes(model), "detection", model, size, (mean, std), outputs, known.classes, settings, smallest
    )


def _segmenter(known: TrainedSegmenter, size: Size | None, any_size: bool) -> Subject:
    model, inference = known.model, known.inference
    if len(inference.views) > 1:
        raise FovealError(f"{known.name} averages over several views of an image, which exported files do not.")
    if not isinstance(model, PixelSegmenter):  # a change of its maps by 1e-6 moves scores by some 1e-4
        raise FovealError(
            f"{known.name} cannot be exported: it amplifies rounding errors beyond the limit for files. Of the "
            "segmenters, UPerNet and Semantic FPN can."
        )
    window = inference.window
    side = _up(known.crop, max(inference.multiple, model.size_divisor)) if window is None else _up(window, 1)
    if window is not None and not any_size and size not in (None, (side, side)):
        raise FovealError(
            f"{known.name} sees windows of {side} x {side} pixels: leave --size out, or add --dynamic size."
        )
    size = (side, side) if size is None else size
    _check(size, model.size_divisor, SMALLEST)
    settings = {
        "head": known.name.split()[0],
        "inference": asdict(inference),
        "crop": known.crop,
        "size_divisor": model.size_divisor,
    }
    mean, std = (tuple(numbers.flatten().tolist()) for numbers in (model.mean, model.std))
    return _subject(PixelScores(model), "segmentation", model, size, (mean, std), (SCORES,), known.classes, settings)


def _subject(
    net: nn.Module, task: str, model: DenseModel, size: Size, normalisation: tuple[Channels, Channels],
    outputs: tuple[str, ...], classes: Sequence[str], settings: dict[str, Any], smallest: int = SMALLEST,
) -> Subject:  # fmt: skip
    resizing = Resizing(1.0, True, "bilinear", *normalisation, padded=True)
    return Subject(net.eval(), task, model.backbone.name, size, resizing, outputs, tuple(classes), settings, smallest)


def _up(side: int, multiple: int, least: int = SMALLEST) -> int:
    return -(-max(side, least) // multiple) * multiple


def _check(size: Size, divisor: int, smallest: int) -> None:
    if min(size) < smallest or any(side % divisor for side in size):
        multiples = "" if divisor == 1 else f", in multiples of {divisor}"
        raise FovealError(f"--size must be at least {smallest} pixels{multiples}, not {size[0]} x {size[1]}.")
