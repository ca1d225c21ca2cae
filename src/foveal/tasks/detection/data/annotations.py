"""The valid content of an annotation file, stored in a few arrays (see ``objects``)."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from foveal.tasks.detection.data.coco_file import BROKEN_LINES, NOTICES, Categories, Content, Split
from foveal.tasks.detection.data.entries import Entry, whole
from foveal.tasks.detection.data.image_entries import valid_images
from foveal.tasks.detection.data.image_names import ImageNames
from foveal.tasks.detection.data.objects import ObjectArrays
from foveal.tasks.detection.data.reader import Reader
from foveal.tasks.detection.data.repair import Twins
from foveal.tasks.detection.data.tally import Findings, Tally


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
        twins: ids that others are used instead of.
        foreign_objects: those of categories that are not among the classes, by name; they are left out.
        skipped, repaired: positions of these annotations in the file's list.
        unlisted: images in the folder that the file does not name.
        others: how many files beside the images are none, by ending.
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
    twins: Twins
    foreign_objects: Tally
    skipped: frozenset[int]
    repaired: frozenset[int]
    unlisted: list[str]
    others: Counter[str]

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
    images, again = valid_images(content["images"], names, findings)
    listed = {number for entry in content["images"] if (number := whole(entry.get("id"))) is not None}
    twins = Twins(categories.twins, again)
    reader = Reader(images, listed.difference(again), categories, twins, masks, findings)
    reader.read(content["annotations"])
    known = {image["file_name"] for image in images.values()}.union(_given_names(content["images"]))
    others = Counter[str]() if NOTICES in content else names.others(known)  # of text labels, they are counted there
    return _packed(images, reader, [] if split.shared else names.unlisted(known), others)


def _packed(images: dict[int, Entry], reader: Reader, unlisted: list[str], others: Counter[str]) -> Annotations:
    """Return what was read, in arrays."""
    counts = np.bincount(np.array(reader.columns.images, dtype=np.int64), minlength=len(images))
    ends = np.cumsum(counts)
    return Annotations(
        image_ids=list(images),
        names=[image["file_name"] for image in images.values()],
        sizes=np.array([(image["height"], image["width"]) for image in images.values()], dtype=np.int64).reshape(-1, 2),
        spans=np.column_stack([ends - counts, ends]),
        objects=reader.columns.sorted(),
        crowds=np.array(reader.crowds, dtype=np.int64).reshape(-1, 2),
        broken_of=np.array(reader.broken_of, dtype=np.int64),
        problems=reader.findings.problems,
        broken=reader.findings.broken,
        repairs=reader.findings.repairs,
        twins=reader.twins,
        foreign_objects=reader.foreign_objects,
        skipped=frozenset(reader.skipped),
        repaired=frozenset(reader.repaired),
        unlisted=unlisted,
        others=others,
    )


def _given_names(images: list[Entry]) -> Iterator[str]:
    return (name for entry in images if isinstance(name := entry.get("file_name"), str))
