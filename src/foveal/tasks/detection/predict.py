"""Detect objects on image files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from foveal.errors import FovealError
from foveal.runtime.predicting import predict_files
from foveal.tasks.detection.detector import Detector
from foveal.tasks.detection.results import MASK_THRESHOLD
from foveal.tasks.detection.rle import Rle, encode_masks, mask_areas
from foveal.tasks.network import best_device


@dataclass(frozen=True)
class DetectedObject:
    """One object on an image.

    Attributes:
        label, name: of its class.
        score: between 0 and 1; None for an annotated object.
        box: (x1, y1, x2, y2) in the image's pixels.
        mask: run lengths of the object's pixels, see ``decode_mask``; None without masks.
    """

    label: int
    name: str
    score: float | None
    box: tuple[float, float, float, float]
    mask: Rle | None = None


@dataclass(frozen=True)
class DetectionPrediction:
    """An image file, its height and width in pixels, and the objects on it, best first."""

    path: str
    height: int
    width: int
    objects: list[DetectedObject]


class DetectionPredictor:
    """A detector as a ``Predictor``: images become (height, width, 3) uint8, answers ``DetectionPrediction``.

    Args:
        detector: moved to ``device``, and set to evaluation mode.
        classes: name of each label.
        threshold: objects with a lower score are left out.
        batch_size: images per batch; they may differ in size, and are padded to the largest.
        device: None for the best one.

    Raises:
        FovealError: ``classes`` are not the detector's.
    """

    def __init__(
        self,
        detector: Detector,
        classes: Sequence[str],
        *,
        threshold: float = 0.5,
        batch_size: int = 1,
        device: torch.device | None = None,
    ) -> None:
        if len(classes) != detector.num_classes:
            raise FovealError(f"The detector has {detector.num_classes} classes, but {len(classes)} names were given.")
        self.batch_size = batch_size
        self._device = device or best_device()
        self._model = detector.to(self._device).eval()
        self._classes, self._threshold = classes, threshold

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Return the pixels of an image in RGB."""
        return np.array(image)

    @torch.no_grad()
    def answer(self, names: Sequence[str], batch: Sequence[np.ndarray]) -> list[DetectionPrediction]:
        """Return the objects on each image."""
        found = self._model([_pixels(image).to(self._device) for image in batch])
        return [
            described(name, image, detected_objects(objects, self._classes, self._threshold))
            for name, image, objects in zip(names, batch, found, strict=True)
        ]


def predict(
    detector: Detector,
    classes: Sequence[str],
    paths: Sequence[str | Path],
    *,
    threshold: float = 0.5,
    batch_size: int = 1,
    device: torch.device | None = None,
    on_batch: Callable[[int, int], None] | None = None,
    on_image: Callable[[DetectionPrediction, np.ndarray], None] | None = None,
) -> list[DetectionPrediction]:
    """Detect objects on image files of any size and mode; predictions are in the order of ``paths``.

    Args:
        detector, classes, threshold, batch_size, device: as for ``DetectionPredictor``.
        paths: image files.
        on_batch: called with (done, total) after each batch.
        on_image: called with each prediction and its image, (height, width, 3) uint8.

    Raises:
        FovealError: a file is missing or not a readable image, or ``classes`` are not the detector's.
    """
    predictor = DetectionPredictor(detector, classes, threshold=threshold, batch_size=batch_size, device=device)
    return predict_files(predictor, paths, on_batch, on_image)


def described(name: str, image: np.ndarray, objects: list[DetectedObject]) -> DetectionPrediction:
    """Return objects as the prediction for the image (H, W, 3) called ``name``."""
    height, width, _ = image.shape
    return DetectionPrediction(name, height, width, objects)


def detected_objects(
    found: Mapping[str, Tensor], classes: Sequence[str], threshold: float = 0.0
) -> list[DetectedObject]:
    """Return the objects in a detector's output for an image, best first, without those below ``threshold``.

    Also accepts a target, which has no scores and masks (N, H, W); its order is kept.
    """
    annotated = "scores" not in found
    if annotated:
        chosen = torch.arange(len(found["labels"]))
    else:
        order = found["scores"].argsort(descending=True, stable=True)
        chosen = order[found["scores"][order] >= threshold]
    scores = [None] * len(chosen) if annotated else found["scores"][chosen].tolist()
    masks: Sequence[Rle | None] = [None] * len(chosen)
    if "masks" in found:
        kept = found["masks"][chosen]
        masks = encode_masks(kept > 0 if annotated else kept[:, 0] >= MASK_THRESHOLD)
    rows = zip(found["labels"][chosen].tolist(), scores, found["boxes"][chosen].tolist(), masks, strict=True)
    return [DetectedObject(label, classes[label], score, tuple(box), mask) for label, score, box, mask in rows]


def to_coco(
    predictions: Sequence[DetectionPrediction], classes: Sequence[str], category_ids: Sequence[int]
) -> dict[str, Any]:
    """Return predictions as a COCO document: images numbered from 1, annotations with ``score``, categories.

    Tools for COCO annotations can open it; ``box`` becomes ``bbox`` (x, y, width, height).
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, prediction in enumerate(predictions, start=1):
        images.append(coco_image(prediction, image_id))
        annotations += coco_annotations(prediction, image_id, len(annotations) + 1, category_ids)
    return {"images": images, "annotations": annotations, "categories": coco_categories(classes, category_ids)}


def coco_image(prediction: DetectionPrediction, image_id: int) -> dict[str, Any]:
    """Return the entry of an image in a COCO document."""
    size = {"height": prediction.height, "width": prediction.width}
    return {"id": image_id, "file_name": prediction.path, **size}


def coco_annotations(
    prediction: DetectionPrediction, image_id: int, first: int, category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Return the entries of an image's objects in a COCO document, numbered from ``first``."""
    return [
        {"id": number, "image_id": image_id, "category_id": category_ids[thing.label], **_annotation(thing)}
        for number, thing in enumerate(prediction.objects, start=first)
    ]


def coco_categories(classes: Sequence[str], category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Return the entries of the classes in a COCO document."""
    return [{"id": number, "name": name} for number, name in zip(category_ids, classes, strict=True)]


def _annotation(thing: DetectedObject) -> dict[str, Any]:
    x1, y1, x2, y2 = thing.box
    content: dict[str, Any] = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
    if thing.mask is not None:
        content |= {"segmentation": thing.mask, "area": mask_areas([thing.mask])[0]}
    return content if thing.score is None else {**content, "score": thing.score}


def _pixels(image: np.ndarray) -> Tensor:
    """Return an image (H, W, 3) uint8 as (3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255
