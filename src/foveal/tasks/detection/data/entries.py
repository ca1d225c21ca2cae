"""What is wrong with a single entry of an annotation file.

Every function returns None, or a short reason to count by and the end of a sentence about the entry.
"""

import math
import re
from typing import Any

from foveal.tasks.detection.rle import run_lengths

Entry = dict[str, Any]
Problem = tuple[str, str]

FIELDS = ("image_id", "category_id", "bbox", "area")
THINNEST = 1e-3  # pixels: shortest side of a box; in float32, the dtype of boxes, less may vanish
FEWEST_NUMBERS = 6  # of a polygon: three points
FARTHEST = 10  # bound on a polygon's coordinates in long sides of its image: its lines are followed pixel by pixel
LARGEST_ID = 2**63  # ids are int64
NO_MASK = "no mask"
EMPTY_MASK: Problem = "mask without a pixel", "has a segmentation that covers no pixel of its image"

_DIGITS = re.compile(r"\s*[+-]?[0-9]{1,19}(\.0*)?\s*")


def whole(value: Any) -> int | None:
    """Return a whole number that may be written as 7, 7.0, "7" or "7.0", or None for anything else."""
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value.partition(".")[0]) if isinstance(value, str) and _DIGITS.fullmatch(value) else None


def numeric(value: Any) -> float | None:
    """Return a finite number that may be written as text, or None for anything else."""
    try:
        number = float(value) if isinstance(value, str) else value
    except ValueError:
        return None
    return number if isinstance(number, int | float) and are_finite([number]) else None


def image_problem(entry: Entry) -> Problem | None:
    """Check an entry of ``images`` on its own, except for its size."""
    if type(entry.get("id")) is not int or abs(entry["id"]) >= LARGEST_ID:
        return "no id", "has no id that is a whole number"
    if not isinstance(entry.get("file_name"), str):
        return "no file_name", "has no file_name"
    return None


def has_size(entry: Entry) -> bool:
    """Return whether an entry of ``images`` has its height and width in whole pixels."""
    return all(type(entry.get(name)) is int and entry[name] > 0 for name in ("height", "width"))


def annotation_problem(entry: Entry, height: int, width: int, masks: bool) -> Problem | None:
    """Check an annotation of an image of this size; its ids have been checked.

    Its segmentation is checked only if ``masks`` is set, and must then exist.
    """
    box = entry["bbox"]
    if not is_box(box):
        return "box of other than four finite numbers", f"has the box {box}, which is not four finite numbers"
    x, y, w, h = box
    if min(w, h) < THINNEST:
        return "box of zero area", f"has the box {box} of zero area"
    if min(x + w, width) - max(x, 0) < THINNEST or min(y + h, height) - max(y, 0) < THINNEST:
        return "box outside of its image", f"has the box {box} outside of its image of {width}x{height} pixels"
    area = entry["area"]
    if not are_finite([area]) or area <= 0:
        return "area of zero or less", f"has the area {area}, which must be above zero"
    if entry.get("iscrowd", 0) not in (0, 1):
        return "iscrowd other than 0 and 1", f"has iscrowd {entry['iscrowd']}, which must be 0 or 1"
    return segmentation_problem(entry.get("segmentation") or None, height, width) if masks else None


def segmentation_problem(segmentation: Any, height: int, width: int) -> Problem | None:
    """Check polygons or run lengths of an image of this size."""
    if segmentation is None:
        return NO_MASK, "has no segmentation, which masks need"
    if isinstance(segmentation, list):
        far = FARTHEST * max(height, width)
        return next((problem for polygon in segmentation if (problem := polygon_problem(polygon, far))), None)
    if not isinstance(segmentation, dict) or segmentation.get("size") != [height, width]:
        words = f"neither polygons nor run lengths of its image's size [{height}, {width}]"
        return "segmentation of another kind or size", f"has a segmentation that is {words}"
    return _runs_problem(segmentation.get("counts"), height * width)


def polygon_problem(polygon: Any, far: int) -> Problem | None:
    """Check a polygon whose coordinates may have absolute values up to ``far``."""
    if not isinstance(polygon, list) or len(polygon) % 2 or not are_finite(polygon):
        return "broken polygon", "has a polygon that is not a list of finite numbers x1, y1, x2, y2, ..."
    if len(polygon) < FEWEST_NUMBERS:
        points = len(polygon) // 2
        return "polygon of fewer than three points", f"has a polygon of {points} points, which must be at least three"
    if max(polygon) > far or min(polygon) < -far:
        return "polygon far outside of its image", "has a polygon that reaches far beyond its image"
    return None


def _runs_problem(counts: Any, pixels: int) -> Problem | None:
    if isinstance(counts, str) and counts.isascii():
        runs = run_lengths(counts.encode()).tolist()
    elif isinstance(counts, list) and all(type(count) is int for count in counts):
        runs = counts
    else:
        return "broken run lengths", "has a segmentation whose counts are neither text nor whole numbers"
    if min(runs, default=-1) < 0 or sum(runs) != pixels:
        return "broken run lengths", f"has a segmentation whose run lengths do not add up to its {pixels} pixels"
    return None if any(runs[1::2]) else EMPTY_MASK


def is_box(box: Any) -> bool:
    """Return whether this is a list of four finite numbers."""
    return isinstance(box, list) and len(box) == 4 and are_finite(box)


def are_finite(numbers: list) -> bool:
    """Return whether all are finite numbers, by a single sum, because there are millions."""
    try:
        return math.isfinite(sum(numbers))
    except (TypeError, OverflowError):
        return False
