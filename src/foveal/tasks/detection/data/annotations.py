"""The entries of an annotation file, checked one by one and stored in a few arrays.

A million objects are then not a million Python objects: arrays have no reference counts, so loading processes share
their memory with the process that forked them.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from foveal.tasks.detection.data.coco_file import BROKEN_LINES, Categories, Content, Split
from foveal.tasks.detection.data.entries import FIELDS, Entry, Problem, annotation_problem, whole
from foveal.tasks.detection.data.image_entries import valid_images
from foveal.tasks.detection.data.image_names import ImageNames
from foveal.tasks.detection.data.repair import repaired
from foveal.tasks.detection.data.tally import Findings, Tally
from foveal.tasks.detection.rle import compress_segmentation

TWICE = "id of another annotation"


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
        crowds: (C, 2) int64, image id and label of each crowd.
        broken_of: (B,) int64, image id of each invalid annotation of a valid image.
        problems: a sentence about each invalid entry, without its full stop.
        broken, repairs: the invalid entries, and those that are not written as in COCO, by reason.
        skipped, repaired: positions of these annotations in the file's list.
        unlisted: images in the folder that the file does not name.
    """

    image_ids: list[int]
    names: list[str]
    sizes: np.ndarray
    spans: np.ndarray
    objects: ObjectArrays
    crowds: np.ndarray
    broken_of: np.ndarray
    problems: list[str]
    broken: Tally
    repairs: Tally
    skipped: frozenset[int]
    repaired: frozenset[int]
    unlisted: list[str]

    def take(self, rows: np.ndarray) -> "Annotations":
        """Return the annotations of these images only."""
        return replace(
            self,
            image_ids=[self.image_ids[row] for row in rows],
            names=[self.names[row] for row in rows],
            sizes=self.sizes[rows],
            spans=self.spans[rows],
        )

    @property
    def object_counts(self) -> np.ndarray:
        """(N,) number of objects of each image."""
        return self.spans[:, 1] - self.spans[:, 0]

    def images_of_objects(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the row of the image, and the label, of each object of these images."""
        counts = self.object_counts
        rows = np.repeat(np.arange(len(counts)), counts)
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return rows, self.objects.labels[np.repeat(self.spans[:, 0], counts) + offsets]


def check_annotations(content: Content, split: Split, categories: Categories, masks: bool) -> Annotations:
    """Check all entries and keep the valid ones. Crowds are checked but not kept: nothing is trained on them.

    Args:
        content: of the file, see ``read_annotations``.
        split: where the file and its images are.
        categories: those of the file.
        masks: keep the objects' masks; every object must then have one. Otherwise they are not looked at.
    """
    names = ImageNames(split.images)
    findings = Findings(split.annotations)
    for which, problem in content.get(BROKEN_LINES, ()):
        findings.add(which, problem)
    images = valid_images(content["images"], names, findings)
    listed = {number for entry in content["images"] if (number := whole(entry.get("id"))) is not None}
    reader = _Reader(images, listed, categories, masks)
    skipped, mended = set[int](), set[int]()
    for position, entry in enumerate(content["annotations"]):
        problem = reader.problem(entry)
        if problem:
            fixed, reasons, problem = reader.mended(entry, problem)
            which = f"nnotation {entry.get('id')}{reader.image_of(fixed)}"
            if problem:
                findings.add("A" + which, problem)
                skipped.add(position)
                reader.keep_broken(fixed)
                continue
            for reason in reasons:
                findings.repairs.add(reason, "a" + which)
            mended.add(position)
            entry = fixed
        if entry["image_id"] in images:
            reader.keep(entry)
    counts = np.bincount(np.array(reader.columns.images, dtype=np.int64), minlength=len(images))
    ends = np.cumsum(counts)
    files = [image["file_name"] for image in images.values()]
    return Annotations(
        list(images),
        files,
        np.array([(image["height"], image["width"]) for image in images.values()], dtype=np.int64).reshape(-1, 2),
        np.column_stack([ends - counts, ends]),
        reader.columns.sorted(),
        np.array(reader.crowds, dtype=np.int64).reshape(-1, 2),
        np.array(reader.broken_of, dtype=np.int64),
        findings.problems,
        findings.broken,
        findings.repairs,
        frozenset(skipped),
        frozenset(mended),
        [] if split.shared else names.unlisted(set(files).union(_given_names(content["images"]))),
    )


def _given_names(images: list[Entry]) -> Iterator[str]:
    return (name for entry in images if isinstance(name := entry.get("file_name"), str))


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

    def __init__(self, images: dict[int, Entry], listed: set[int], categories: Categories, masks: bool) -> None:
        self.images, self.listed, self.twins, self.masks = images, listed, categories.twins, masks
        self.rows = {number: row for row, number in enumerate(images)}
        self.labels = {number: label for label, number in enumerate(categories.names)}
        self.columns, self._known = _Columns(), set[int]()
        self.crowds: list[tuple[int, int]] = []
        self.broken_of: list[int] = []

    def problem(self, entry: Entry) -> Problem | None:
        """Return what is wrong with an annotation as it is written."""
        number = entry.get("id")
        if type(number) is not int:
            return "no id", "has no id that is a whole number"
        if number in self._known:
            return TWICE, "has the id of another annotation"
        self._known.add(number)
        return self._problem_of_content(entry)

    def mended(self, entry: Entry, problem: Problem) -> tuple[Entry, list[str], Problem | None]:
        """Return an annotation with a problem, repaired if possible, the reasons for that, and what remains wrong."""
        fixed, reasons = repaired(entry, self.twins, self._size_of(entry), self.masks)
        if not reasons or problem[0] == TWICE:
            return entry, [], problem
        known = type(entry.get("id")) is int
        remains = self._problem_of_content(fixed) if known else self.problem(fixed)
        return fixed, reasons, remains

    def _problem_of_content(self, entry: Entry) -> Problem | None:
        missing = next((name for name in FIELDS if name not in entry), None)
        if missing:
            return f"no {missing}", f"has no {missing}"
        image, category = entry["image_id"], entry["category_id"]
        if type(image) is not int or image not in self.listed:
            return "unknown image", f"has the image_id {image}, and there is no such image"
        if type(category) is not int or category not in self.labels:
            return "unknown category", f"has the category_id {category}, and there is no such category"
        known = self.images.get(image)
        if known is None:
            return None  # the image is invalid, and has been reported
        return annotation_problem(entry, known["height"], known["width"], self.masks)

    def _size_of(self, entry: Entry) -> tuple[int, int] | None:
        number = whole(entry.get("image_id"))
        image = None if number is None else self.images.get(number)
        return None if image is None else (image["height"], image["width"])

    def image_of(self, entry: Entry) -> str:
        """Return the image of an annotation as part of a sentence, empty if it is unknown."""
        number = whole(entry.get("image_id"))
        image = None if number is None else self.images.get(number)
        return f" of image {number} ({image['file_name']})" if image else ""

    def keep_broken(self, entry: Entry) -> None:
        """Note the image of an invalid annotation."""
        number = whole(entry.get("image_id"))
        if number in self.images:
            self.broken_of.append(number)  # type: ignore[arg-type]

    def keep(self, entry: Entry) -> None:
        """Append an annotation to the columns, its box clipped to the image; of a crowd, only that there is one."""
        label = self.labels[entry["category_id"]]
        if entry.get("iscrowd"):
            self.crowds.append((entry["image_id"], label))
            return
        image = self.images[entry["image_id"]]
        height, width = image["height"], image["width"]
        x, y, w, h = entry["bbox"]
        self.columns.images.append(self.rows[entry["image_id"]])
        self.columns.boxes.extend((max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)))
        self.columns.labels.append(label)
        self.columns.areas.append(entry["area"])
        if self.masks:
            self.columns.runs.append(compress_segmentation(entry["segmentation"], height, width))
