"""The entries of an annotation file, checked and kept in few arrays: a million objects are no million Python objects.

So a loading process shares this memory with the one that forked it: nothing counts references in an array.
"""

import os
from array import array
from dataclasses import dataclass, field, replace

import numpy as np

from foveal.tasks.detection.data.checks import FIELDS, Entry, annotation_problem, image_problem
from foveal.tasks.detection.data.layout import Place
from foveal.tasks.detection.data.runs import encode


@dataclass(frozen=True)
class Objects:
    """The M objects of all images, those of one image side by side.

    Attributes:
        boxes: (M, 4) float32, (x1, y1, x2, y2) in pixels, within the image.
        labels: (M,) int64.
        areas: (M,) float32, pixels, as the file tells them.
        runs, run_ends: the masks' compressed runs one after the other, and (M,) where each ends; empty without masks.
    """

    boxes: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    runs: bytes
    run_ends: np.ndarray

    def run(self, number: int) -> bytes:
        """The compressed runs of one object's mask."""
        return self.runs[self.run_ends[number - 1] if number else 0 : self.run_ends[number]]


@dataclass(frozen=True)
class Table:
    """What an annotation file tells, without what is broken in it.

    Attributes:
        image_ids, names: of each of the N images its id, and its file below the folder of images.
        sizes: (N, 2) of each image, height and width.
        spans: (N, 2) of each image, the first of its objects and the one behind the last.
        problems: a sentence about each broken entry, without its full stop.
        skipped: where in the file's list of annotations the broken ones stand.
    """

    image_ids: list[int]
    names: list[str]
    sizes: np.ndarray
    spans: np.ndarray
    objects: Objects
    problems: list[str]
    skipped: frozenset[int]

    def take(self, rows: np.ndarray) -> "Table":
        """Only these images."""
        return replace(
            self,
            image_ids=[self.image_ids[row] for row in rows],
            names=[self.names[row] for row in rows],
            sizes=self.sizes[rows],
            spans=self.spans[rows],
        )


@dataclass
class _Columns:
    """Objects in the order of the file, as they are read."""

    images: array = field(default_factory=lambda: array("q"))
    boxes: array = field(default_factory=lambda: array("f"))
    labels: array = field(default_factory=lambda: array("q"))
    areas: array = field(default_factory=lambda: array("f"))
    runs: list[bytes] = field(default_factory=list)

    def sorted(self) -> Objects:
        """Those of one image side by side, in the order of the file."""
        order = np.argsort(np.array(self.images), kind="stable")
        runs = [self.runs[number] for number in order] if self.runs else []
        return Objects(
            np.array(self.boxes, dtype=np.float32).reshape(-1, 4)[order],
            np.array(self.labels, dtype=np.int64)[order],
            np.array(self.areas, dtype=np.float32)[order],
            b"".join(runs),
            np.cumsum([len(run) for run in runs], dtype=np.int64),
        )


def make_table(content: dict[str, list[Entry]], place: Place, category_ids: list[int], masks: bool) -> Table:
    """Check all entries and keep the sound ones; objects of crowds are not kept, because nothing is trained on them.

    Args:
        content: as ``read_annotations`` gives it.
        category_ids: label -> category id.
        masks: keep the objects' masks; then each must have one.
    """
    problems: list[str] = []
    images = _sound_images(content["images"], place, problems)
    reader = _Reader(images, _whole_numbers(content["images"]), category_ids, masks)
    skipped = set()
    for position, entry in enumerate(content["annotations"]):
        problem = reader.problem(entry)
        if problem:
            problems.append(f"Annotation {entry.get('id')}{reader.whose(entry)} in {place.annotations} {problem}")
            skipped.add(position)
        elif entry["image_id"] in images and not entry.get("iscrowd"):
            reader.keep(entry)
    counts = np.bincount(np.array(reader.columns.images, dtype=np.int64), minlength=len(images))
    ends = np.cumsum(counts)
    return Table(
        list(images),
        [image["file_name"] for image in images.values()],
        np.array([(image["height"], image["width"]) for image in images.values()], dtype=np.int64).reshape(-1, 2),
        np.column_stack([ends - counts, ends]),
        reader.columns.sorted(),
        problems,
        frozenset(skipped),
    )


def _whole_numbers(entries: list[Entry]) -> set[int]:
    """The ids of all images, also of broken ones."""
    return {entry["id"] for entry in entries if type(entry.get("id")) is int}


def _sound_images(entries: list[Entry], place: Place, problems: list[str]) -> dict[int, Entry]:
    """Image id -> entry, in the order of the file; a sentence about each of the others."""
    images: dict[int, Entry] = {}
    present = {file.name for file in os.scandir(place.images)}
    for entry in entries:
        number, name = entry.get("id"), entry.get("file_name")
        if type(number) is not int:
            problem: str | None = "has no id that is a whole number"
        elif number in images:
            problem = "has the id of another image"
        else:
            problem = image_problem(entry)
        if not problem and name not in present and not (place.images / str(name)).is_file():
            problem = f"has no file: there is no {place.images / str(name)}"
        if problem:
            problems.append(f"Image {number} ({name}) in {place.annotations} {problem}")
        else:
            images[number] = entry  # type: ignore[index]
    return images


class _Reader:
    """Annotations one by one: what is wrong with each, and the sound ones into columns."""

    def __init__(self, images: dict[int, Entry], listed: set[int], category_ids: list[int], masks: bool) -> None:
        self.images, self.listed, self.masks = images, listed, masks
        self.rows = {number: row for row, number in enumerate(images)}
        self.labels = {number: label for label, number in enumerate(category_ids)}
        self.columns, self._known = _Columns(), set[int]()

    def problem(self, entry: Entry) -> str | None:
        """The end of a sentence about it, or None."""
        number = entry.get("id")
        if type(number) is not int:
            return "has no id that is a whole number"
        if number in self._known:
            return "has the id of another annotation"
        self._known.add(number)
        absent = next((name for name in FIELDS if name not in entry), None)
        if absent:
            return f"has no {absent}"
        if type(entry["image_id"]) is not int or entry["image_id"] not in self.listed:
            return f"has the image_id {entry['image_id']}, and there is no such image"
        if type(entry["category_id"]) is not int or entry["category_id"] not in self.labels:
            return f"has the category_id {entry['category_id']}, and there is no such category"
        image = self.images.get(entry["image_id"])
        if image is None:
            return None  # the image is broken, and told already
        return annotation_problem(entry, image["height"], image["width"], self.masks)

    def whose(self, entry: Entry) -> str:
        """Of which image it is, where there is such a one."""
        number = entry.get("image_id")
        image = self.images.get(number) if type(number) is int else None
        return f" of image {number} ({image['file_name']})" if image else ""

    def keep(self, entry: Entry) -> None:
        """Into the columns, its box cut at the image's border."""
        image = self.images[entry["image_id"]]
        height, width = image["height"], image["width"]
        x, y, w, h = entry["bbox"]
        self.columns.images.append(self.rows[entry["image_id"]])
        self.columns.boxes.extend((max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)))
        self.columns.labels.append(self.labels[entry["category_id"]])
        self.columns.areas.append(entry["area"])
        if self.masks:
            self.columns.runs.append(encode(entry["segmentation"], height, width))
