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
    THINNEST,
    Entry,
    are_finite,
    is_box,
    numeric,
    polygon_problem,
    segmentation_problem,
    whole,
)
from foveal.tasks.detection.rle import run_lengths

# Reasons to count by.
NUMBERS = "numbers written as text or with a decimal point, read as whole numbers"
AREA = "area missing or not above zero, computed from the mask, or from the box if there is none"
TEXT = "numbers written as text, read as numbers"
BOX = "box missing or without area, computed from the mask"
CROWD = "iscrowd null or text, read as the number that it means"
POLYGONS = "polygons that are none beside good ones, left out"
FLAT = "a polygon without the list around it, read as one"
MOVED = "annotations of an image that is listed again, read as those of the first"
LISTED = "run lengths with a list around them, read without it"
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
    for name in ("bbox", "area"):
        numbers = _numbers(fixed.get(name))
        if numbers is not None and numbers != fixed[name]:
            fixed[name] = numbers
            reasons.append(TEXT)
    if not _has_sides(fixed.get("bbox")) and mask is not None and _has_sides(box := box_of(mask, height, width)):
        fixed["bbox"] = box
        reasons.append(BOX)
    if not _is_area(fixed.get("area")) and is_box(fixed.get("bbox")):
        sides = fixed["bbox"][2] * fixed["bbox"][3]
        fixed["area"] = (0 if mask is None else area_of(mask)) or sides
        reasons.append(AREA)
    return reasons


def _usable_mask(segmentation: Any, height: int, width: int) -> tuple[Any, list[str]]:
    """Return the part of a segmentation that is a mask, None if nothing is, and the reasons for changes."""
    if isinstance(segmentation, list) and len(segmentation) == 1 and isinstance(segmentation[0], dict):
        mask, reasons = _usable_mask(segmentation[0], height, width)
        return mask, [] if mask is None else [*reasons, LISTED]
    if isinstance(segmentation, list):
        return _usable_polygons(segmentation, FARTHEST * max(height, width))
    if not isinstance(segmentation, dict):
        return None, []
    if segmentation_problem(segmentation, height, width) is None:
        return segmentation, []
    read = {name: _wholes(segmentation.get(name)) for name in ("size", "counts")}
    return (None, []) if segmentation_problem(read, height, width) else (read, [NUMBERS])


def _usable_polygons(segmentation: list, far: int) -> tuple[list[list[float]] | None, list[str]]:
    flat = bool(segmentation) and not any(isinstance(part, list) for part in segmentation)
    good, reasons = [], [FLAT] * flat
    for part in [segmentation] if flat else segmentation:
        polygon = part if polygon_problem(part, far) is None else _numbers(part)
        if polygon_problem(polygon, far):
            reasons.append(POLYGONS)
            continue
        good.append(polygon)
        reasons += [TEXT] * (polygon is not part)
    return (good, reasons) if good else (None, [])


def _numbers(value: Any) -> Any:
    """Return a number, or a list of numbers, that may be written as text; None for anything else."""
    if not isinstance(value, list):
        return numeric(value)
    read = [numeric(part) for part in value]
    return None if None in read else read


def _wholes(value: Any) -> Any:
    """Return a list of whole numbers that may be written otherwise as such, and anything else as it is."""
    read = [whole(part) for part in value] if isinstance(value, list) else [None]
    return value if None in read else read


def _has_sides(box: Any) -> bool:
    return is_box(box) and min(box[2:]) >= THINNEST


def _is_area(area: Any) -> bool:
    return isinstance(area, int | float) and are_finite([area]) and area > 0


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
