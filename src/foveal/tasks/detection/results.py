"""What a detector found, image by image, in COCO's terms: kept small, gathered over processes, written as its files."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from foveal.files import atomic_file
from foveal.tasks.detection.rle import Rle, encode_masks

#: A pixel belongs to a mask from this probability on, as in Mask R-CNN (He et al. 2017, section 3.1).
MASK_THRESHOLD = 0.5

Record = dict[str, Any]


@dataclass(frozen=True)
class ImageResult:
    """The N objects that were found on one image.

    Attributes:
        image_id: COCO's number of the image.
        boxes: (N, 4) float32, (x1, y1, x2, y2) in pixels.
        labels: (N,) int64 from 0.
        scores: (N,) float32.
        masks: N run lengths, or None where the detector gives no masks.
    """

    image_id: int
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    masks: list[Rle] | None = None

    @classmethod
    def of(cls, image_id: int, found: Mapping[str, Tensor]) -> "ImageResult":
        """From what a detector returns for the image; mask probabilities become masks of whole pixels here."""
        masks = encode_masks(found["masks"][:, 0] >= MASK_THRESHOLD) if "masks" in found else None
        boxes, scores = (found[name].detach().float().cpu().numpy() for name in ("boxes", "scores"))
        return cls(image_id, boxes, found["labels"].cpu().numpy(), scores, masks)

    def box_records(self, category_ids: Sequence[int]) -> list[Record]:
        """COCO's records of the boxes, ``bbox`` as (x, y, width, height); label i is category ``category_ids[i]``."""
        corners = self.boxes.astype(np.float64)
        sides = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).tolist()
        return [{**head, "bbox": box} for head, box in zip(self._heads(category_ids), sides, strict=True)]

    def mask_records(self, category_ids: Sequence[int]) -> list[Record]:
        """COCO's records of the masks. They have no ``bbox``: the tools would take its area for the mask's."""
        masks = self.masks or []
        return [{**head, "segmentation": m} for head, m in zip(self._heads(category_ids), masks, strict=True)]

    def _heads(self, category_ids: Sequence[int]) -> list[Record]:
        pairs = zip(self.labels.tolist(), self.scores.tolist(), strict=True)
        return [{"image_id": self.image_id, "category_id": category_ids[at], "score": score} for at, score in pairs]


def box_records(results: Iterable[ImageResult], category_ids: Sequence[int]) -> list[Record]:
    """COCO's records of all boxes, image after image."""
    return [record for result in results for record in result.box_records(category_ids)]


def mask_records(results: Iterable[ImageResult], category_ids: Sequence[int]) -> list[Record]:
    """COCO's records of all masks, image after image."""
    return [record for result in results for record in result.mask_records(category_ids)]


def write_coco_results(path: Path, records: Sequence[Record]) -> None:
    """Write records as the JSON list that COCO's server takes and ``COCO.loadRes`` reads, whole or not at all.

    Raises:
        FovealError: the file cannot be written; what was there before is untouched.
    """
    with atomic_file(path) as part:
        part.write_text(json.dumps(list(records)), encoding="utf-8")
