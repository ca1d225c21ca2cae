"""YOLO's text labels: one file per image, one object per line, as fractions of the image.

A line is a class number from 0 and either a box (centre x, centre y, width, height) or a polygon (x1, y1, x2, y2, ...).
A box may be followed by a confidence, or by the keypoints that ``kpt_shape`` in ``data.yaml`` announces.
``labels/a.txt`` belongs to ``images/a.jpg``, as in the files that Ultralytics' ``data.yaml`` names; Darknet's ``a.txt``
is beside ``a.jpg``. An image without a file of labels has no objects.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from foveal.errors import BrokenSample, FovealError
from foveal.image_files import image_size, read_text
from foveal.tasks.detection.data.coco_file import BROKEN_LINES, NOTICES, Content, Split
from foveal.tasks.detection.data.entries import FEWEST_NUMBERS, Entry, Problem, are_finite, whole
from foveal.tasks.detection.data.repair import area_of, box_of
from foveal.tasks.detection.data.tally import Tally
from foveal.tasks.listing import find_entry, is_hidden, left_out, walk_images

IMAGES, LABELS, LABEL_ENDING = "images", "labels", ".txt"
NO_LABELS = ("classes.txt",)  # beside labels, the names of the classes
AFTER = "after the box"
SCORED, KEYPOINTS = "a confidence after the box, as detectors write it, left out", "keypoints after the box, left out"
SLACK = 0.01  # by which rounded fractions may leave the image


@dataclass(frozen=True)
class YoloSplit(Split):
    """A split with text labels, read as if it were an annotation file.

    Attributes:
        names: class number -> name.
        sources: folders of images, or lists of their files, one path per line.
        remarks: sentences about how they were found.
        keypoints: how many numbers of keypoints follow each box.
    """

    names: dict[int, str] = field(default_factory=dict)
    sources: tuple[Path, ...] = ()
    remarks: tuple[str, ...] = ()
    keypoints: int = 0
    _sizes: dict[Path, dict[str, int]] = field(default_factory=dict)
    """Of the images read so far: their headers are read once."""
    _folders: dict[Path, Path | None] = field(default_factory=dict)
    """Of labels, by those of images."""

    def read(self) -> Content:
        content: Content = {"images": [], "annotations": [], BROKEN_LINES: [], NOTICES: [*self.remarks]}
        content["categories"] = [{"id": number, "name": name} for number, name in self.names.items()]
        labels, bare, extra = set(), 0, Tally()
        for file in self._files(content[NOTICES]):
            image = {"id": len(content["images"]) + 1, "file_name": Path(os.path.relpath(file, self.images)).as_posix()}
            content["images"].append({**image, **self._size(file)})
            label = self._label(file)
            if label is None:
                bare += 1
            else:
                labels.add(label)
                self._read_labels(label, content, extra)
        if bare and bare == len(content["images"]):
            place = expected_label(self.images / content["images"][0]["file_name"])
            images = "The image" if bare == 1 else f"None of the {bare:,} images"
            has = "has no" if bare == 1 else "has a"
            raise FovealError(
                f"{images} of {self.annotations} {has} file of labels: put that of the first into {place}."
            )
        content[NOTICES] += self._about_labels(labels, bare)
        content[NOTICES] += [f"{self.annotations}: {part}." for part in extra.parts()]
        return content

    def _files(self, notices: list[str]) -> Iterator[Path]:
        for source in self.sources:
            if source.suffix == LABEL_ENDING:
                for line in filter(None, map(str.strip, read_text(source).splitlines())):
                    yield resolve(source.parent, line) or source.parent / line
                continue
            listing = walk_images(source)
            del listing.others[LABEL_ENDING]
            notices += left_out(listing.others, source)
            yield from listing.images

    def _label(self, image: Path) -> Path | None:
        """Return the file with the labels of an image, None if there is none."""
        if image.parent not in self._folders:
            self._folders[image.parent] = labels_of(image.parent)
        places = (self._folders[image.parent], image.parent)
        files = (place / f"{image.stem}{LABEL_ENDING}" for place in places if place is not None)
        return next((file for file in files if file.is_file()), None)

    def _size(self, file: Path) -> dict[str, int]:
        """Return height and width of an image, or nothing for one that cannot be read, which is reported later."""
        if file not in self._sizes:
            try:
                width, height = image_size(file)
                self._sizes[file] = {"height": height, "width": width}
            except BrokenSample:
                self._sizes[file] = {}
        return self._sizes[file]

    def _read_labels(self, label: Path, content: Content, extra: Tally) -> None:
        image = content["images"][-1]
        if "height" not in image:
            return
        try:
            lines = read_text(label).splitlines()
        except FovealError as error:
            problem = "labels that cannot be read", f"cannot be read: {error}".rstrip(".")
            content[BROKEN_LINES].append((f"File {label.name}", problem))
            return
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            entry, wrong = _object(line, image, self.names, self.keypoints)
            if after := entry.pop(AFTER, None):
                extra.add(after, f"line {number} of {label.name}")
            if wrong:
                content[BROKEN_LINES].append((f"Line {number} of {label.name}", wrong))
            else:
                content["annotations"].append({"id": len(content["annotations"]) + 1, **entry})

    def _about_labels(self, used: set[Path], bare: int) -> Iterator[str]:
        """Yield how many images have no labels, and how many labels no image, if the folders are those of the split."""
        if bare:
            images = "one image has" if bare == 1 else f"{bare:,} images have"
            yield f"{self.annotations}: {images} no file of labels, and so no objects."
        folders = {
            label.parent for label in used if _is_of_labels(label.parent) and all(map(Path.is_dir, self.sources))
        }
        unused = sorted({file for folder in folders for file in folder.glob("*" + LABEL_ENDING)} - used)
        unused = [file for file in unused if not is_hidden(file.name) and file.name not in NO_LABELS]
        if unused:
            files = "one file of labels has" if len(unused) == 1 else f"{len(unused):,} files of labels have"
            yield f"{self.annotations}: {files} no image, left out; the first: {unused[0].name}."


def labels_of(images: Path) -> Path | None:
    """Return the folder of labels that belongs to a folder of images, ``labels`` for ``images``, or None."""
    parts = [part.casefold() for part in images.parts]
    if IMAGES not in parts:
        return None
    at = len(parts) - 1 - parts[::-1].index(IMAGES)
    labels = find_entry(Path(*images.parts[:at]), LABELS, *images.parts[at + 1 :])
    return labels if labels.is_dir() else None


def _is_of_labels(folder: Path) -> bool:
    return LABELS in (part.casefold() for part in folder.parts)


def expected_label(image: Path) -> Path:
    """Return the file in which the labels of an image belong."""
    parts = [LABELS if part.casefold() == IMAGES else part for part in image.parent.parts]
    return Path(*parts, image.stem + LABEL_ENDING)


def resolve(folder: Path, text: str) -> Path | None:
    """Return the file or folder that a path in ``folder`` means; it may begin with folders that the disk has not."""
    path = Path(text.replace("\\", "/"))
    if os.path.exists(folder / path):
        return folder / path
    parts = [part for part in path.parts if part not in ("..", ".", path.anchor)]
    found = (folder.joinpath(*parts[start:]) for start in range(len(parts)))
    return next((place for place in found if os.path.exists(place)), None)


def _object(line: str, image: Entry, names: dict[int, str], keypoints: int) -> tuple[Entry, Problem | None]:
    """Return the annotation that a line of labels means, or what is wrong with it."""
    try:
        number, *values = map(float, line.split())
    except ValueError:
        return {}, ("line that is not numbers", f"is not numbers with spaces between them, but {line[:40]!r}")
    has_score = len(values) == 5 and 0 <= values[4] <= 1
    after = SCORED if has_score else KEYPOINTS if keypoints and len(values) == 4 + keypoints else None
    if after:
        del values[4:]
    label = whole(number)
    if label not in names:
        return {}, ("unknown class", f"has the class {number:g}, and there are names for 0 to {max(names)}")
    if len(values) != 4 and (len(values) < FEWEST_NUMBERS or len(values) % 2):
        words = f"has {len(values)} numbers after its class: neither the four of a box, nor three points or more"
        return {}, ("neither box nor polygon", words)
    if not are_finite(values) or min(values) < -SLACK or max(values) > 1 + SLACK:
        return {}, ("coordinates that are not fractions", "has coordinates that are not fractions of the image, 0 to 1")
    shape = _box(values, image) if len(values) == 4 else _polygon(values, image)
    if min(shape["bbox"][2:]) <= 0:
        return {}, ("box of zero area", "has an object without width or height")
    return {"image_id": image["id"], "category_id": label, "iscrowd": 0, **shape, AFTER: after}, None


def _box(values: list[float], image: Entry) -> Entry:
    x, y, w, h = values
    width, height = image["width"], image["height"]
    box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
    return {"bbox": box, "area": box[2] * box[3]}


def _polygon(values: list[float], image: Entry) -> Entry:
    width, height = image["width"], image["height"]
    polygon = [value * (height if at % 2 else width) for at, value in enumerate(values)]
    box = box_of([polygon], height, width)
    return {"bbox": box, "area": area_of([polygon]) or box[2] * box[3], "segmentation": [polygon]}
