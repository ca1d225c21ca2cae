"""What an annotation means although it is not written as in COCO: fields that are missing, or have another type.

What follows from the rest of the entry is derived: an area from the mask or box, a box from the mask. What remains
wrong is a problem (see ``entries``). Entries that are written as in COCO never come here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from foveal.tasks.detection.data.entries import (
    FARTHEST,
    Entry,
    are_finite,
    is_box,
    polygon_problem,
    segmentation_problem,
    whole,
)
from foveal.tasks.detection.rle import run_lengths

# Reasons to count by.
NUMBERS = "numbers written as text or with a decimal point, read as whole numbers"
AREA = "area missing or not above zero, computed from the mask, or from the box if there is none"
BOX = "box missing, computed from the mask"
CROWD = "iscrowd null or text, read as the number that it means"
POLYGONS = "polygons that are none beside good ones, left out"
FLAT = "a polygon without the list around it, read as one"
MOVED = "annotations of an image that is listed again, read as those of the first"
TWIN = "category of the same name as another, read as that"


@dataclass(frozen=True)
class Twins:
    """Ids of what a file lists twice: id -> the id to use instead."""

    categories: Mapping[int, int] = field(default_factory=dict)
    images: Mapping[int, int] = field(default_factory=dict)


def repaired(entry: Entry, twins: Twins, size: tuple[int, int] | None, masks: bool) -> tuple[Entry, list[str]]:
    """Return a copy of an annotation that says what this one means, and the reasons for its changes.

    Args:
        entry: the annotation.
        twins: ids to use instead of those given.
        size: height and width of its image, None if that is unknown: then only ids are looked at.
        masks: its segmentation will be read.
    """
    fixed, reasons = dict(entry), []
    for name in ("id", "image_id", "category_id"):
        number = whole(entry.get(name))
        if number is not None and type(entry[name]) is not int:
            fixed[name] = number
            reasons.append(NUMBERS)
    if type(fixed.get("category_id")) is int and fixed["category_id"] in twins.categories:
        fixed["category_id"] = twins.categories[fixed["category_id"]]
        reasons.append(TWIN)
    if type(fixed.get("image_id")) is int and fixed["image_id"] in twins.images:
        fixed["image_id"] = twins.images[fixed["image_id"]]
        reasons.append(MOVED)
    crowd = entry.get("iscrowd", 0)
    if crowd is None or (type(crowd) is str and whole(crowd) is not None):
        fixed["iscrowd"] = whole(crowd) or 0
        reasons.append(CROWD)
    if size is not None:
        reasons += _repair_shape(fixed, *size, masks)
    return fixed, list(dict.fromkeys(reasons))


def _repair_shape(fixed: Entry, height: int, width: int, masks: bool) -> list[str]:
    """Repair segmentation, box and area in place, and return the reasons."""
    mask, reasons = _usable_mask(fixed.get("segmentation"), height, width)
    if masks and reasons:
        fixed["segmentation"] = mask
    else:
        reasons = []  # a segmentation that is not read is left as it is
    if fixed.get("bbox") in (None, []) and mask is not None:
        fixed["bbox"] = box_of(mask, height, width)
        reasons.append(BOX)
    if _lacks_area(fixed.get("area")) and is_box(fixed.get("bbox")):
        sides = fixed["bbox"][2] * fixed["bbox"][3]
        fixed["area"] = (0 if mask is None else area_of(mask)) or sides
        reasons.append(AREA)
    return reasons


def _usable_mask(segmentation: Any, height: int, width: int) -> tuple[Any, list[str]]:
    """Return the part of a segmentation that is a mask, None if nothing is, and the reasons for leaving out others."""
    if isinstance(segmentation, list):
        flat = bool(segmentation) and not isinstance(segmentation[0], list) and are_finite(segmentation)
        polygons = [segmentation] if flat else segmentation
        far = FARTHEST * max(height, width)
        good = [polygon for polygon in polygons if polygon_problem(polygon, far) is None]
        if not good:
            return None, []
        return good, [FLAT] * flat + [POLYGONS] * (len(good) < len(polygons))
    if not segmentation or segmentation_problem(segmentation, height, width):
        return None, []
    return segmentation, []


def _lacks_area(area: Any) -> bool:
    """Return whether an area is missing, zero, negative or not finite; another type is a mistake of another kind."""
    return area is None or (isinstance(area, int | float) and not (are_finite([area]) and area > 0))


def area_of(mask: Any) -> float:
    """Return the area of polygons, each by the shoelace formula, or the number of pixels of run lengths."""
    if isinstance(mask, dict):
        return int(_runs(mask)[1::2].sum())
    total = 0.0
    for polygon in mask:
        x, y = np.array(polygon, dtype=np.float64).reshape(-1, 2).T
        total += abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    return total


def box_of(mask: Any, height: int, width: int) -> list[float]:
    """Return the box around a mask as COCO's x, y, width, height."""
    if isinstance(mask, dict):
        runs = _runs(mask)
        pixels = np.repeat(np.arange(len(runs)) & 1, runs).reshape(width, height).T  # down the columns
        rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
        if not len(rows):
            return [0, 0, 0, 0]
        left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        return [int(left), int(top), int(right - left), int(bottom - top)]
    points = np.concatenate([np.array(polygon, dtype=np.float64).reshape(-1, 2) for polygon in mask])
    (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    return [left, top, right - left, bottom - top]


def _runs(mask: Entry) -> np.ndarray:
    counts = mask["counts"]
    return run_lengths(counts.encode()) if isinstance(counts, str) else np.array(counts, dtype=np.int64)
