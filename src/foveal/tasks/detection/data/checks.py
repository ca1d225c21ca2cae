"""What can be wrong with an entry of an annotation file, each as the end of a sentence."""

import math
from typing import Any

from foveal.tasks.detection.data.runs import run_lengths

Entry = dict[str, Any]
FIELDS = ("image_id", "category_id", "bbox", "area")
THINNEST = 1e-3  # side of a box in pixels: in float32, as boxes are kept, less may be nothing
FEWEST_NUMBERS = 6  # of a polygon: three points
FARTHEST = 10  # long sides of the image from its origin to a polygon's points: its lines are followed pixel by pixel


def image_problem(entry: Entry) -> str | None:
    """What is wrong with an entry of ``images`` by itself, or None."""
    if not isinstance(entry.get("file_name"), str):
        return "has no file_name"
    if not all(type(entry.get(name)) is int and entry[name] > 0 for name in ("height", "width")):
        return f"has no height and width in pixels, but {entry.get('height')} and {entry.get('width')}"
    return None


def annotation_problem(entry: Entry, height: int, width: int, masks: bool) -> str | None:
    """What is wrong with an annotation of an image of this size, or None; its image and category are known.

    A segmentation may be missing unless ``masks`` are wanted; one that is there must be whole.
    """
    box = entry["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not _finite(box):
        return f"has the box {box}, which is not four finite numbers"
    x, y, w, h = box
    if min(w, h) < THINNEST:
        return f"has the box {box} of zero area"
    if min(x + w, width) - max(x, 0) < THINNEST or min(y + h, height) - max(y, 0) < THINNEST:
        return f"has the box {box} outside of its image of {width}x{height} pixels"
    area = entry["area"]
    if not _finite([area]) or area <= 0:
        return f"has the area {area}, which must be above zero"
    if entry.get("iscrowd", 0) not in (0, 1):
        return f"has iscrowd {entry['iscrowd']}, which must be 0 or 1"
    return segmentation_problem(entry.get("segmentation") or None, height, width, masks)


def segmentation_problem(segmentation: Any, height: int, width: int, masks: bool) -> str | None:
    """What is wrong with a segmentation of an image of this size, or None."""
    if segmentation is None:
        return "has no segmentation, and masks are wanted" if masks else None
    if isinstance(segmentation, list):
        far = FARTHEST * max(height, width)
        return next((problem for polygon in segmentation if (problem := _polygon_problem(polygon, far))), None)
    if not isinstance(segmentation, dict) or segmentation.get("size") != [height, width]:
        return f"has a segmentation that is neither polygons nor runs of its image's size [{height}, {width}]"
    return _runs_problem(segmentation.get("counts"), height * width)


def _polygon_problem(polygon: Any, far: int) -> str | None:
    if not isinstance(polygon, list) or len(polygon) % 2 or not _finite(polygon):
        return "has a polygon that is not a list of finite numbers x1, y1, x2, y2, ..."
    if len(polygon) < FEWEST_NUMBERS:
        return f"has a polygon of {len(polygon) // 2} points, and three are the fewest"
    if max(polygon) > far or min(polygon) < -far:
        return "has a polygon that reaches far beyond its image"
    return None


def _runs_problem(counts: Any, pixels: int) -> str | None:
    if isinstance(counts, str) and counts.isascii():
        runs = run_lengths(counts.encode()).tolist()
    elif isinstance(counts, list) and all(type(count) is int for count in counts):
        runs = counts
    else:
        return "has a segmentation whose counts are neither text nor whole numbers"
    if min(runs, default=-1) < 0 or sum(runs) != pixels:
        return f"has a segmentation whose runs do not make up its {pixels} pixels"
    return None


def _finite(numbers: list) -> bool:
    """Whether all are numbers, none of them NaN or infinite; by one addition, because there are millions."""
    try:
        return math.isfinite(sum(numbers))
    except (TypeError, OverflowError):
        return False
