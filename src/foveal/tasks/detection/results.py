"""Detections per image in compact form, to gather over processes and to write as COCO's result files."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveal.files import atomic_file
from foveal.tasks.detection.rle import Rle, encode_masks

#: Pixels with at least this probability belong to a mask, as in Mask R-CNN (He et al. 2017, section 3.1).
MASK_THRESHOLD = 0.5

Record = dict[str, Any]


@dataclass(frozen=True)
class ImageResult:
    """The N detections on an image.

    Attributes:
        image_id: COCO's id of the image.
        boxes: (N, 4) float32, (x1, y1, x2, y2) in pixels.
        labels: (N,) int64 from 0.
        scores: (N,) float32.
        masks: N run lengths, or None for a detector without masks.
    """

    image_id: int
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    masks: list[Rle] | None = None

    @classmethod
    def from_detections(cls, image_id: int, found: Mapping[str, Tensor]) -> "ImageResult":
        """Convert a detector's output for the image; mask probabilities are thresholded."""
        masks = encode_masks(found["masks"][:, 0] >= MASK_THRESHOLD) if "masks" in found else None
        boxes, scores = (found[name].detach().float().cpu().numpy() for name in ("boxes", "scores"))
        return cls(image_id, boxes, found["labels"].cpu().numpy(), scores, masks)

    def state(self) -> dict[str, Any]:
        """Return the detections in tensors and plain types, for ``of``."""
        arrays = {name: torch.from_numpy(getattr(self, name)) for name in ("boxes", "labels", "scores")}
        return {"image_id": self.image_id, **arrays, "masks": self.masks}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "ImageResult":
        """Return the detections of a ``state``."""
        arrays = {name: state[name].numpy() for name in ("boxes", "labels", "scores")}
        return cls(state["image_id"], **arrays, masks=state["masks"])

    def box_records(self, category_ids: Sequence[int]) -> list[Record]:
        """Return COCO's records of the boxes, ``bbox`` as (x, y, width, height), with ids from ``category_ids``."""
        corners = self.boxes.astype(np.float64)
        sides = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).tolist()
        return [{**head, "bbox": box} for head, box in zip(self._heads(category_ids), sides, strict=True)]

    def mask_records(self, category_ids: Sequence[int]) -> list[Record]:
        """Return COCO's records of the masks, without ``bbox``: the tools would use its area for the mask's."""
        masks = self.masks or []
        return [{**head, "segmentation": m} for head, m in zip(self._heads(category_ids), masks, strict=True)]

    def _heads(self, category_ids: Sequence[int]) -> list[Record]:
        pairs = zip(self.labels.tolist(), self.scores.tolist(), strict=True)
        return [{"image_id": self.image_id, "category_id": category_ids[at], "score": score} for at, score in pairs]


def box_records(results: Iterable[ImageResult], category_ids: Sequence[int]) -> list[Record]:
    """Return COCO's records of all boxes, image after image."""
    return [record for result in results for record in result.box_records(category_ids)]


def mask_records(results: Iterable[ImageResult], category_ids: Sequence[int]) -> list[Record]:
    """Return COCO's records of all masks, image after image."""
    return [record for result in results for record in result.mask_records(category_ids)]


def write_coco_results(path: Path, records: Sequence[Record]) -> None:
    """Write records as the JSON list that COCO's server takes and ``COCO.loadRes`` reads, whole or not at all.

    Raises:
        FovealError: the file cannot be written; an existing one is unchanged.
    """
    with atomic_file(path) as part:
        part.write_text(json.dumps(list(records)), encoding="utf-8")
