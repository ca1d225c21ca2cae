"""The entries of ``annotations`` of an annotation file, checked and repaired one by one."""

import json

from foveal.tasks.detection.data.coco_file import Categories
from foveal.tasks.detection.data.entries import EMPTY_MASK, FIELDS, Entry, Problem, annotation_problem, whole
from foveal.tasks.detection.data.objects import Columns
from foveal.tasks.detection.data.repair import Twins, area_of, box_of, repaired
from foveal.tasks.detection.data.tally import Findings, Tally
from foveal.tasks.detection.rle import compress_segmentation, is_empty

# Reasons to count by.
RENUMBERED = "ids that are missing, no whole numbers or used twice: annotations are numbered anew"
TINY = "masks too small or thin to cover a pixel"
FOREIGN: Problem = "unknown class", "is of a class that training does not have"
COPY = "copies of an annotation, left out"


class Reader:
    """Checks annotations one by one and collects the valid ones in columns.

    Attributes:
        columns, crowds, broken_of, findings, foreign_objects, skipped, repaired: as in ``Annotations``.
    """

    def __init__(
        self,
        images: dict[int, Entry],
        listed: set[int],
        categories: Categories,
        twins: Twins,
        masks: bool,
        findings: Findings,
    ) -> None:
        self.images, self.listed, self.twins, self.masks = images, listed, twins, masks
        self.rows = {number: row for row, number in enumerate(images)}
        labels = {number: label for label, number in enumerate(categories.names)}
        matched = {number: labels[own] for number, own in categories.ids.items()}
        self.labels = matched if matched or categories.foreign else labels
        self.foreign, self.foreign_objects = categories.foreign, Tally()
        self.columns, self.findings = Columns(), findings
        self.skipped, self.repaired = set[int](), set[int]()
        self.crowds: list[tuple[int, int]] = []
        self.broken_of: list[int] = []
        self._merged: dict[int, set[str]] = {number: set() for number in twins.images.values()}  # texts of objects

    def read(self, entries: list[Entry]) -> None:
        """Read all annotations of a file."""
        ids = _Ids(entries)
        known = ids.first
        for position, entry in enumerate(entries):
            number = entry.get("id")
            is_new = type(number) is int and known.setdefault(number, position) == position
            if not is_new and self._is_copy(ids, position, entry):
                continue
            problem = self._problem(entry)
            fixed = entry if is_new and problem is None else self._repair(position, entry, problem)
            if fixed is None or fixed["image_id"] not in self.images:
                continue
            if self._merged and self._is_again(fixed):
                self.findings.repairs.add(COPY, self._which("a", position, entry))
                self.skipped.add(position)
            elif problem := self._keep(position, fixed):
                self._reject(position, entry, problem)

    def _is_copy(self, ids: "_Ids", position: int, entry: Entry) -> bool:
        """Return whether an annotation, whose id is not new or no number, is a copy; note what is done about its id."""
        if ids.is_new(position, entry):
            return False
        is_copy = ids.is_copy(entry)
        self.findings.repairs.add(COPY if is_copy else RENUMBERED, self._which("a", position, entry))
        if is_copy:
            self.skipped.add(position)
        return is_copy

    def _repair(self, position: int, entry: Entry, problem: Problem | None) -> Entry | None:
        """Return a repaired annotation and note the reasons, or note what remains wrong with it and return None."""
        fixed, reasons = repaired(entry, self.twins, self._size_of(entry), self.masks)
        remains = self._problem(fixed) if reasons else problem
        if remains == FOREIGN:
            self._leave_out(position, fixed)
            return None
        if remains:
            self._reject(position, entry, remains)
            return None
        for reason in reasons:
            self.findings.repairs.add(reason, self._which("a", position, entry))
        self.repaired.add(position)
        return fixed

    def _problem(self, entry: Entry) -> Problem | None:
        """Return what is wrong with an annotation, except for its id."""
        missing = next((name for name in FIELDS if name not in entry), None)
        if missing:
            return f"no {missing}", f"has no {missing}"
        image, category = entry["image_id"], entry["category_id"]
        if type(image) is not int or image not in self.listed:
            return "unknown image", f"has the image_id {image}, and there is no such image"
        if type(category) is int and category in self.foreign:
            return FOREIGN
        if type(category) is not int or category not in self.labels:
            return "unknown category", f"has the category_id {category}, and there is no such category"
        known = self.images.get(image)
        if known is None:
            return None  # the image is invalid, and has been reported
        return annotation_problem(entry, known["height"], known["width"], self.masks)

    def _is_again(self, entry: Entry) -> bool:
        """Return whether an object of an image that is listed twice is there already."""
        known = self._merged.get(entry["image_id"])
        text = _text({name: value for name, value in entry.items() if name != "id"})
        if known is None or text in known:
            return known is not None
        known.add(text)
        return False

    def _image_of(self, entry: Entry) -> Entry | None:
        number = whole(entry.get("image_id"))
        return None if number is None else self.images.get(self.twins.images.get(number, number))

    def _size_of(self, entry: Entry) -> tuple[int, int] | None:
        image = self._image_of(entry)
        return None if image is None else (image["height"], image["width"])

    def _which(self, first: str, position: int, entry: Entry) -> str:
        """Return the words for an annotation, which begin with ``first``, "A" or "a", and the image if it is known."""
        image = self._image_of(entry)
        name = entry.get("id")
        words = f"{first}nnotation {f'at place {position + 1}' if name is None else name}"
        return f"{words} of image {image['id']} ({image['file_name']})" if image else words

    def _leave_out(self, position: int, entry: Entry) -> None:
        """Leave out an annotation of a category that the classes do not contain."""
        if not entry.get("iscrowd"):
            self.foreign_objects.add(self.foreign[entry["category_id"]], self._which("a", position, entry))
        self.skipped.add(position)

    def _reject(self, position: int, entry: Entry, problem: Problem) -> None:
        """Note an invalid annotation and its image."""
        self.findings.add(self._which("A", position, entry), problem)
        self.skipped.add(position)
        image = self._image_of(entry)
        if image is not None:
            self.broken_of.append(image["id"])

    def _keep(self, position: int, entry: Entry) -> Problem | None:
        """Append an annotation to the columns, its box clipped to the image; of a crowd, only that there is one.

        A mask without a pixel is a problem, unless its polygons are only too small or thin, as a few of COCO's are.
        """
        label = self.labels[entry["category_id"]]
        if entry.get("iscrowd"):
            self.crowds.append((entry["image_id"], label))
            return None
        image = self.images[entry["image_id"]]
        height, width = image["height"], image["width"]
        if self.masks:
            runs = compress_segmentation(entry["segmentation"], height, width)
            if is_empty(runs):
                if not _is_within(entry["segmentation"], height, width):
                    return EMPTY_MASK
                self.findings.repairs.add(TINY, self._which("a", position, entry))
            self.columns.runs.append(runs)
        x, y, w, h = entry["bbox"]
        self.columns.images.append(self.rows[entry["image_id"]])
        self.columns.boxes.extend((max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)))
        self.columns.labels.append(label)
        self.columns.areas.append(entry["area"])
        return None


class _Ids:
    """Ids of annotations. Nothing needs them to be unique, but a copy of an entry is no second object.

    Attributes:
        first: id -> position of the first entry that has it.
    """

    def __init__(self, entries: list[Entry]) -> None:
        self.first: dict[int, int] = {}
        self._entries = entries
        self._texts: dict[int | None, set[str]] = {}  # by id, None for what is none: entries without an id of their own

    def is_new(self, position: int, entry: Entry) -> bool:
        """Return whether the id of an entry is a whole number, in any form, that no entry before has."""
        number = whole(entry.get("id"))
        return number is not None and self.first.setdefault(number, position) == position

    def is_copy(self, entry: Entry) -> bool:
        """Return whether an entry, whose id is not new, is equal to one before."""
        number = whole(entry.get("id"))
        if number not in self._texts:
            first = [] if number is None else [_text(self._entries[self.first[number]])]
            self._texts[number] = set(first)
        text, known = _text(entry), self._texts[number]
        is_copy = text in known
        known.add(text)
        return is_copy


def _is_within(mask: list[list[float]], height: int, width: int) -> bool:
    """Return whether polygons have an area, and their box a part of it within the image."""
    x, y, w, h = box_of(mask, height, width)
    return area_of(mask) > 0 and min(x + w, width) > max(x, 0) and min(y + h, height) > max(y, 0)


def _text(entry: Entry) -> str:
    return json.dumps(entry, sort_keys=True)
