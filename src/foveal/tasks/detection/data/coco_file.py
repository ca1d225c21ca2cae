"""A COCO annotation file: its lists, its categories, and the folder of its images."""

import gc
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from foveal.errors import FovealError
from foveal.image_files import read_text
from foveal.tasks.detection.data.entries import Entry, whole
from foveal.tasks.detection.data.tally import Tally

Content = dict[str, Any]
BROKEN_LINES = "broken lines"  # key of what is wrong with text labels: what each sentence begins with, and the problem
NOTICES = "notices"  # key of sentences about the files
LISTS = ("images", "annotations", "categories")
TWIN_CATEGORIES = "categories of the same name, read as one class"
OTHER_IDS = "categories with other ids than in training, read by their names"
FIRST_NAMES = 8  # images that are looked for to find the folder that names start from

#: COCO's 80 object classes by category id (Lin et al. 2014, as of 2017).
COCO_CLASSES: dict[int, str] = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat",
    10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench", 16: "bird", 17: "cat",
    18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear", 24: "zebra", 25: "giraffe",
    27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase", 34: "frisbee", 35: "skis",
    36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat", 40: "baseball glove", 41: "skateboard",
    42: "surfboard", 43: "tennis racket", 44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife",
    50: "spoon", 51: "bowl", 52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot",
    58: "hot dog", 59: "pizza", 60: "donut", 61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed",
    67: "dining table", 70: "toilet", 72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard",
    77: "cell phone", 78: "microwave", 79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator", 84: "book",
    85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear", 89: "hair drier", 90: "toothbrush",
}  # fmt: skip


@dataclass(frozen=True)
class Split:
    """The annotations and the folder of images of one split.

    Attributes:
        annotations: the file; sentences name it.
        images: the folder that names of images are relative to.
        others: folders that they may be relative to as well.
        shared: whether other splits keep their images in the same folder.
        name: what the split is called on the disk, such as "valid"; empty for images without a split.
    """

    annotations: Path
    images: Path
    others: tuple[Path, ...] = ()
    shared: bool = False
    name: str = ""

    def read(self) -> Content:
        """Return ``images``, ``annotations`` and ``categories``, lists of dicts; see ``read_annotations``."""
        return read_annotations(self.annotations)

    def rooted(self, images: Sequence[Entry]) -> "Split":
        """Return the split with the folder that the names of its first images are relative to."""
        names = [name for entry in images[:FIRST_NAMES] if isinstance(name := entry.get("file_name"), str)]
        folders = (self.images, *self.others)
        found = (folder for folder in folders if any(os.path.isfile(folder / name) for name in names))
        return replace(self, images=next(found, self.images))


def read_annotations(file: Path) -> Content:
    """Return ``images``, ``annotations`` and ``categories`` of an annotation file, lists of dicts.

    Raises:
        FovealError: the file cannot be read, or has another structure.
    """
    text = read_text(file)
    try:
        with gc_disabled():
            content = json.loads(text)
    except ValueError as error:
        raise FovealError(f"{file} is not JSON ({error}): replace the file.") from error
    except RecursionError as error:
        raise FovealError(f"{file} is nested too deeply for an annotation file: replace the file.") from error
    for name in LISTS:
        entries = content.get(name) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise FovealError(f"{file} has no list of {name}: pass a file in COCO's format of instances.")
    return content


@dataclass(frozen=True)
class Categories:
    """The classes of an annotation file.

    Attributes:
        names: id -> name, by ascending id.
        twins: id -> the id that is used instead, for categories of the same name.
        repairs: what was not as COCO has it.
        ids: id in the file -> id here, if the names are those of other data (see ``matched``); otherwise empty.
        foreign: id in the file -> name, of those that the other data has not.
    """

    names: dict[int, str]
    twins: dict[int, int] = field(default_factory=dict)
    repairs: Tally = field(default_factory=Tally)
    ids: dict[int, int] = field(default_factory=dict)
    foreign: dict[int, str] = field(default_factory=dict)

    def matched(self, classes: dict[int, str]) -> "Categories":
        """Return these categories as classes of other data, id -> name: matched by name, since ids may differ."""
        if self.names.items() <= classes.items():
            return replace(self, names=classes)
        numbers = {name: number for number, name in classes.items()}
        ids = {number: numbers[name] for number, name in self.names.items() if name in numbers}
        foreign = {number: name for number, name in self.names.items() if name not in numbers}
        repairs = Tally()
        repairs.update(self.repairs)
        for number, name in self.names.items():
            if ids.get(number, number) != number:
                repairs.add(OTHER_IDS, f"category {number} ({name!r})")
        return Categories(classes, self.twins, repairs, ids, foreign)


def read_categories(content: Content, file: Path) -> Categories:
    """Return the categories of an annotation file.

    Of categories with the same name, such as Roboflow's heading of all classes and a class that is called like it, the
    one with the highest id is used.

    Raises:
        FovealError: there are none, one has no id or no name, or two share an id.
    """
    names: dict[int, str] = {}
    for entry in content["categories"]:
        number, name = whole(entry.get("id")), entry.get("name")
        if number is None or not isinstance(name, str | int):
            raise FovealError(f"{file} has a category without an id or a name, {entry}: give it both.")
        if names.get(number, str(name)) != str(name):
            raise FovealError(f"{file} has the category {number} ({name!r}) twice: remove one.")
        names[number] = str(name)
    if not names:
        raise FovealError(f"{file} has no categories: add those of its annotations.")
    used = {names[number]: number for number in sorted(names)}  # the highest id of each name
    twins = {number: used[name] for number, name in names.items() if used[name] != number}
    repairs = Tally()
    for number in sorted(twins):
        repairs.add(TWIN_CATEGORIES, f"category {number} ({names[number]!r})")
    return Categories({number: names[number] for number in sorted(used.values())}, twins, repairs)


@contextmanager
def gc_disabled() -> Iterator[None]:
    """Disable garbage collection, which would scan the millions of objects being read again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
