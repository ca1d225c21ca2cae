"""The entries of an annotation file, checked one by one and stored in a few arrays.

A million objects are then not a million Python objects: arrays have no reference counts, so loading processes share
their memory with the process that forked them.
"""

import math
import os
from array import array
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from foveal.tasks.detection.data.layout import Split
from foveal.tasks.detection.rle import compress_segmentation, run_lengths

Entry = dict[str, Any]
FIELDS = ("image_id", "category_id", "bbox", "area")
THINNEST = 1e-3  # pixels: shortest side of a box; in float32, the dtype of boxes, less may vanish
FEWEST_NUMBERS = 6  # of a polygon: three points
FARTHEST = 10  # bound on a polygon's coordinates in long sides of its image: its lines are followed pixel by pixel


@dataclass(frozen=True)
class ObjectArrays:
    """The M objects of all images, those of an image next to each other.

    Attributes:
        boxes: (M, 4) float32, (x1, y1, x2, y2) in pixels, within the image.
        labels: (M,) int64.
        areas: (M,) float32, pixels, as given by the file.
        runs, run_ends: the masks' compressed runs, concatenated, and (M,) their ends; empty without masks.
    """

    boxes: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    runs: bytes
    run_ends: np.ndarray

    def run(self, number: int) -> bytes:
        """Return the compressed runs of an object's mask."""
        return self.runs[self.run_ends[number - 1] if number else 0 : self.run_ends[number]]


@dataclass(frozen=True)
class Annotations:
    """The valid content of an annotation file.

    Attributes:
        image_ids, names: id of each of the N images, and its file relative to the folder of images.
        sizes: (N, 2), height and width of each image.
        spans: (N, 2), the range of each image's objects: the first, and one past the last.
        objects: of all images.
        problems: a sentence about each invalid entry, without its full stop.
        skipped: positions of the invalid annotations in the file's list.
    """

    image_ids: list[int]
    names: list[str]
    sizes: np.ndarray
    spans: np.ndarray
    objects: ObjectArrays
    problems: list[str]
    skipped: frozenset[int]

    def take(self, rows: np.ndarray) -> "Annotations":
        """Return the annotations of these images only."""
        return replace(
            self,
            image_ids=[self.image_ids[row] for row in rows],
            names=[self.names[row] for row in rows],
            sizes=self.sizes[rows],
            spans=self.spans[rows],
        )


def check_annotations(
    content: dict[str, list[Entry]], split: Split, category_ids: list[int], masks: bool
) -> Annotations:
    """Check all entries and keep the valid ones. Crowds are checked but not kept: nothing is trained on them.

    Args:
        content: of the file, see ``read_annotations``.
        split: where the file and its images are.
        category_ids: category id of each label.
        masks: keep the objects' masks; every object must then have one.
    """
    problems: list[str] = []
    images = _valid_images(content["images"], split, problems)
    listed = {entry["id"] for entry in content["images"] if type(entry.get("id")) is int}
    reader = _Reader(images, listed, category_ids, masks)
    skipped = set()
    for position, entry in enumerate(content["annotations"]):
        problem = reader.problem(entry)
        if problem:
            problems.append(f"Annotation {entry.get('id')}{reader.image_of(entry)} in {split.annotations} {problem}")
            skipped.add(position)
        elif entry["image_id"] in images and not entry.get("iscrowd"):
            reader.keep(entry)
    counts = np.bincount(np.array(reader.columns.images, dtype=np.int64), minlength=len(images))
    ends = np.cumsum(counts)
    return Annotations(
        list(images),
        [image["file_name"] for image in images.values()],
        np.array([(image["height"], image["width"]) for image in images.values()], dtype=np.int64).reshape(-1, 2),
        np.column_stack([ends - counts, ends]),
        reader.columns.sorted(),
        problems,
        frozenset(skipped),
    )


def _valid_images(entries: list[Entry], split: Split, problems: list[str]) -> dict[int, Entry]:
    """Return image id -> entry in the order of the file, and append a sentence about each invalid one."""
    images: dict[int, Entry] = {}
    present = {file.name for file in os.scandir(split.images)}
    for entry in entries:
        number, name = entry.get("id"), entry.get("file_name")
        if type(number) is not int:
            problem: str | None = "has no id that is a whole number"
        elif number in images:
            problem = "has the id of another image"
        else:
            problem = _image_problem(entry)
        if not problem and name not in present and not (split.images / str(name)).is_file():
            problem = f"has no file: there is no {split.images / str(name)}"
        if problem:
            problems.append(f"Image {number} ({name}) in {split.annotations} {problem}")
        else:
            images[number] = entry  # type: ignore[index]
    return images


@dataclass
class _Columns:
    """Objects in the order of the file, appended one by one."""

    images: array = field(default_factory=lambda: array("q"))
    boxes: array = field(default_factory=lambda: array("f"))
    labels: array = field(default_factory=lambda: array("q"))
    areas: array = field(default_factory=lambda: array("f"))
    runs: list[bytes] = field(default_factory=list)

    def sorted(self) -> ObjectArrays:
        """Return the objects grouped by image, otherwise in the order of the file."""
        order = np.argsort(np.array(self.images), kind="stable")
        runs = [self.runs[number] for number in order] if self.runs else []
        return ObjectArrays(
            np.array(self.boxes, dtype=np.float32).reshape(-1, 4)[order],
            np.array(self.labels, dtype=np.int64)[order],
            np.array(self.areas, dtype=np.float32)[order],
            b"".join(runs),
            np.cumsum([len(run) for run in runs], dtype=np.int64),
        )


class _Reader:
    """Checks annotations one by one and collects the valid ones in columns."""

    def __init__(self, images: dict[int, Entry], listed: set[int], category_ids: list[int], masks: bool) -> None:
        self.images, self.listed, self.masks = images, listed, masks
        self.rows = {number: row for row, number in enumerate(images)}
        self.labels = {number: label for label, number in enumerate(category_ids)}
        self.columns, self._known = _Columns(), set[int]()

    def problem(self, entry: Entry) -> str | None:
        """Return what is wrong with an annotation as the end of a sentence, or None."""
        number = entry.get("id")
        if type(number) is not int:
            return "has no id that is a whole number"
        if number in self._known:
            return "has the id of another annotation"
        self._known.add(number)
        missing = next((name for name in FIELDS if name not in entry), None)
        if missing:
            return f"has no {missing}"
        if type(entry["image_id"]) is not int or entry["image_id"] not in self.listed:
            return f"has the image_id {entry['image_id']}, and there is no such image"
        if type(entry["category_id"]) is not int or entry["category_id"] not in self.labels:
            return f"has the category_id {entry['category_id']}, and there is no such category"
        image = self.images.get(entry["image_id"])
        if image is None:
            return None  # the image is invalid, and has been reported
        return _annotation_problem(entry, image["height"], image["width"], self.masks)

    def image_of(self, entry: Entry) -> str:
        """Return the image of an annotation as part of a sentence, empty if it is unknown."""
        number = entry.get("image_id")
        image = self.images.get(number) if type(number) is int else None
        return f" of image {number} ({image['file_name']})" if image else ""

    def keep(self, entry: Entry) -> None:
        """Append an annotation to the columns, its box clipped to the image."""
        image = self.images[entry["image_id"]]
        height, width = image["height"], image["width"]
        x, y, w, h = entry["bbox"]
        self.columns.images.append(self.rows[entry["image_id"]])
        self.columns.boxes.extend((max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)))
        self.columns.labels.append(self.labels[entry["category_id"]])
        self.columns.areas.append(entry["area"])
        if self.masks:
            self.columns.runs.append(compress_segmentation(entry["segmentation"], height, width))


def _image_problem(entry: Entry) -> str | None:
    """Return what is wrong with an entry of ``images`` on its own, or None."""
    if not isinstance(entry.get("file_name"), str):
        return "has no file_name"
    if not all(type(entry.get(name)) is int and entry[name] > 0 for name in ("height", "width")):
        return f"has no height and width in pixels, but {entry.get('height')} and {entry.get('width')}"
    return None


def _annotation_problem(entry: Entry, height: int, width: int, masks: bool) -> str | None:
    """Return what is wrong with an annotation of an image of this size, or None; its ids have been checked.

    A segmentation may be missing unless ``masks`` is set, but an existing one must be valid.
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
    return _segmentation_problem(entry.get("segmentation") or None, height, width, masks)


def _segmentation_problem(segmentation: Any, height: int, width: int, masks: bool) -> str | None:
    if segmentation is None:
        return "has no segmentation, which masks need" if masks else None
    if isinstance(segmentation, list):
        far = FARTHEST * max(height, width)
        return next((problem for polygon in segmentation if (problem := _polygon_problem(polygon, far))), None)
    if not isinstance(segmentation, dict) or segmentation.get("size") != [height, width]:
        return f"has a segmentation that is neither polygons nor run lengths of its image's size [{height}, {width}]"
    return _runs_problem(segmentation.get("counts"), height * width)


def _polygon_problem(polygon: Any, far: int) -> str | None:
    if not isinstance(polygon, list) or len(polygon) % 2 or not _finite(polygon):
        return "has a polygon that is not a list of finite numbers x1, y1, x2, y2, ..."
    if len(polygon) < FEWEST_NUMBERS:
        return f"has a polygon of {len(polygon) // 2} points, which must be at least three"
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
        return f"has a segmentation whose run lengths do not add up to its {pixels} pixels"
    return None


def _finite(numbers: list) -> bool:
    """Return whether all are finite numbers, by a single sum, because there are millions."""
    try:
        return math.isfinite(sum(numbers))
    except (TypeError, OverflowError):
        return False
