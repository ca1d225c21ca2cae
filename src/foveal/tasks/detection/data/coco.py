"""Images with boxes, labels and masks, from a folder in COCO's layout."""

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from foveal.errors import BrokenSample, FovealError
from foveal.image_files import load_rgb_of_size
from foveal.tasks.detection.data.annotations import Annotations
from foveal.tasks.detection.data.coco_file import BROKEN_LINES, NOTICES, Categories, Split
from foveal.tasks.detection.data.entries import Entry, whole
from foveal.tasks.detection.data.reader import RENUMBERED
from foveal.tasks.detection.data.repair import repaired
from foveal.tasks.detection.data.tally import Tally
from foveal.tasks.detection.rle import decode_runs
from foveal.tasks.held_out import HeldOut
from foveal.tasks.listing import few, left_out

Target = dict[str, Tensor]
SMALLEST_SIDE = 32  # pixels, of images that ``empty="drop"`` keeps; MMDetection's filter

# Why an image is not used.
ONLY_CROWDS, ONLY_BROKEN = "only crowds", "only broken annotations"
NO_OBJECT, SMALL = "no annotation", f"a side below {SMALLEST_SIDE} pixels"
ADVICE = {
    ONLY_CROWDS: "set iscrowd to 0 where an annotation is a single object, as the masks that CVAT exports",
    ONLY_BROKEN: "repair these entries",
    SMALL: "use larger images",
    NO_OBJECT: "add annotations",
}


class CocoImages(Dataset):
    """Data set whose item i is ``transform(image, target)``: a uint8 image (3, H, W), and a dict of its objects.

    - ``boxes`` (N, 4) float32, (x1, y1, x2, y2) in pixels, clipped to the image; ``labels`` (N,) int64 from 0;
    - ``area`` (N,) float32 in pixels, as given by the file; ``iscrowd`` (N,) int64, all 0;
    - ``image_id`` int64, 0-d; and optionally ``masks`` (N, H, W) uint8 of 0 and 1.

    Targets contain no crowds, as in MMDetection: training uses single objects only. Evaluation, which must ignore
    detections within crowds, uses ``ground_truth``.

    Attributes:
        classes: names in the order of category ids; labels are indices into them.
        category_ids: category id of each label.
        image_ids: id of each image.
        annotation_file: the file they come from.
        transform: (image, target) -> item; None for the image as float in [0, 1] and the target.
        problems: a sentence about each entry of the file that was skipped.
        held_out: the images that were drawn for validation from those without a split, if these are they.
        remarks: sentences about the files, for ``notices``.
    """

    held_out: HeldOut | None = None

    def __init__(
        self,
        split: Split,
        annotations: Annotations,
        categories: Categories,
        masks: bool,
        remarks: Sequence[str] = (),
    ) -> None:
        self.annotation_file, self.folder, self.masks = split.annotations, split.images, masks
        self.classes, self.category_ids = list(categories.names.values()), list(categories.names)
        self.transform: Callable[[Tensor, Target], Any] | None = None
        self.problems = [f"{problem}." for problem in annotations.problems]
        self.remarks = list(remarks)
        self._split, self._annotations, self._ids = split, annotations, categories.ids
        self._unused = list(categories.foreign.values())
        self._repairs, self._left_out = Tally(), Tally()
        self._repairs.update(categories.repairs)
        self._repairs.update(annotations.repairs)

    @property
    def set_name(self) -> str:
        """What the set is called on the disk, or how it was drawn; empty for all images of a folder."""
        return self._split.name if self.held_out is None else self.held_out.set_name

    @property
    def image_ids(self) -> list[int]:
        return self._annotations.image_ids

    @property
    def paths(self) -> list[str]:
        """File of each image."""
        return [self._path(index) for index in range(len(self))]

    def __len__(self) -> int:
        return len(self._annotations.image_ids)

    def __getitem__(self, index: int) -> Any:
        image, target = self.image(index), self.target(index)
        return (image / 255, target) if self.transform is None else self.transform(image, target)

    def image(self, index: int) -> Tensor:
        """Return image ``index``, uint8 (3, H, W), in its EXIF orientation unless the annotated size is without it.

        Raises:
            BrokenSample: it cannot be read, or has another size than annotated.
        """
        path = self._path(index)
        height, width = self._annotations.sizes[index].tolist()
        image = load_rgb_of_size(path, (width, height))
        if image.size != (width, height):
            raise BrokenSample(
                path,
                f"{path} has {image.width}x{image.height} pixels, and {self.annotation_file} says {width}x{height}: "
                "replace the image or correct the file.",
            )
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()

    def target(self, index: int) -> Target:
        """Return the objects of image ``index`` without reading the image."""
        objects, (first, last) = self._annotations.objects, self._annotations.spans[index].tolist()
        target = {
            "boxes": torch.from_numpy(objects.boxes[first:last].copy()),
            "labels": torch.from_numpy(objects.labels[first:last].copy()),
            "area": torch.from_numpy(objects.areas[first:last].copy()),
            "iscrowd": torch.zeros(last - first, dtype=torch.int64),
            "image_id": torch.tensor(self._annotations.image_ids[index]),
        }
        if self.masks:
            height, width = self._annotations.sizes[index].tolist()
            masks = np.zeros((last - first, height, width), dtype=np.uint8)
            for mask, number in zip(masks, range(first, last), strict=True):
                mask[:] = decode_runs(objects.run(number), height, width)
            target["masks"] = torch.from_numpy(masks)
        return target

    def ground_truth(self) -> dict[str, Any]:
        """Return the annotation file's content for an evaluator, repaired, without skipped entries and dropped images.

        The file is read again: keeping its content would take many times the memory of the arrays here.
        """
        content = self._split.read()
        known, sizes = self._annotations, self._annotations.sizes.tolist()
        rows: dict[int | None, int] = {number: row for row, number in enumerate(self.image_ids)}
        images = {whole(image.get("id")): image for image in reversed(content["images"])}  # of two, the first
        again = known.twins.images
        annotations = []
        for position, entry in enumerate(content["annotations"]):
            if position in known.skipped:
                continue
            number = whole(entry["image_id"])
            row = None if number is None else rows.get(again.get(number, number))
            if row is None:
                continue
            if position in known.repaired:
                entry, _ = repaired(entry, known.twins, tuple(sizes[row]), self.masks)
            annotations.append(entry)
        if RENUMBERED in self._repairs.counts:
            annotations = [{**entry, "id": number} for number, entry in enumerate(annotations, start=1)]
        if any(given != number for given, number in self._ids.items()):
            annotations = [{**entry, "category_id": self._ids[entry["category_id"]]} for entry in annotations]
        return {
            **{name: value for name, value in content.items() if name not in (BROKEN_LINES, NOTICES)},
            "images": [
                {**images[number], "id": number, "file_name": name, "height": height, "width": width}
                for number, name, (height, width) in zip(self.image_ids, known.names, sizes, strict=True)
            ],
            "annotations": annotations,
            "categories": self._category_entries(content["categories"]),
        }

    def _category_entries(self, entries: list[Entry]) -> list[Entry]:
        """Return the file's categories if they are those of this set, or entries for these."""
        own = dict(zip(self.category_ids, self.classes, strict=True))
        given = {entry["id"]: entry["name"] for entry in entries if type(entry["id"]) is int}
        if given == own and len(entries) == len(own):
            return entries
        return [{"id": number, "name": name} for number, name in own.items()]

    @property
    def notices(self) -> list[str]:
        """Sentences about what was repaired and left out, and about classes without an object."""
        file, known = self.annotation_file, self._annotations
        found = list(self.remarks)
        if count := known.broken.total:
            entries = "a broken entry" if count == 1 else f"{count:,} broken entries"
            found.append(f"{file} has {entries}, left out here: {known.broken}.")
        found += [f"{file}: {part}." for part in self._repairs.parts()]
        if names := self._unused:
            found.append(
                f"{file} has categories without an object that training does not have, left out: {few(names)}."
            )
        if unlisted := known.unlisted:
            images = "an image that it does" if len(unlisted) == 1 else f"{len(unlisted):,} images that it does"
            found.append(f"{file} has {images} not name in {self.folder}, left out; the first: {unlisted[0]}.")
        found += left_out(known.others, self.folder)
        if count := self._left_out.total:
            images = "An image" if count == 1 else f"{count:,} images"
            found.append(f"{images} of {file} will not be used: {self._left_out}.")
        return [*found, *self._about_objects()]

    def _about_objects(self) -> list[str]:
        found = []
        crowds = self._annotations.crowds
        if count := int(np.isin(crowds[:, 0], self.image_ids).sum()):
            words = "a crowd" if count == 1 else f"{count:,} crowds"
            found.append(f"{self.annotation_file} has {words}, which training leaves out and evaluation ignores.")
        if missing := self.classes_without_objects:
            found.append(
                f"{self._title} has no object of {len(missing)} of its {len(self.classes)} "
                f"class{'es' * (len(self.classes) > 1)}: {few(missing)}."
            )
        return found

    @property
    def _title(self) -> str:
        if self.held_out is None:
            return str(self.annotation_file)
        images = "one image is" if len(self) == 1 else f"{len(self):,} images are"
        return f"{self.annotation_file}, of which {images} for validation,"

    @property
    def classes_without_objects(self) -> list[str]:
        """Names of the classes of which no image has an object that is not a crowd."""
        _, labels = self._annotations.images_of_objects()
        counts = np.bincount(labels, minlength=len(self.classes))
        return [name for name, count in zip(self.classes, counts.tolist(), strict=True) if not count]

    @property
    def names(self) -> list[str]:
        """File of each image, relative to ``folder``."""
        return self._annotations.names

    def rarest_labels(self) -> list[int]:
        """Return of each image the label that the fewest images have, -1 for an image without objects."""
        rows, labels = self._annotations.images_of_objects()
        pairs = np.unique(np.column_stack([rows, labels]), axis=0)
        images = np.bincount(pairs[:, 1], minlength=1)[pairs[:, 1]]  # that have this label
        order = np.lexsort((images, pairs[:, 0]))
        rows, first = np.unique(pairs[order, 0], return_index=True)
        rarest = np.full(len(self), -1)
        rarest[rows] = pairs[order[first], 1]
        return rarest.tolist()

    def check_objects(self, use: str) -> None:
        """Raise FovealError, which says why, if no image has an object to ``use`` ("train on")."""
        if not self._annotations.object_counts.any():
            raise FovealError(f"{self._title} has no object to {use}: {self._why(self._empty())}.")

    def check_images(self) -> None:
        """Raise FovealError, which says why, if there is no image."""
        if not len(self):
            raise FovealError(f"{self.annotation_file} has no usable image: {self._why(self._left_out)}.")

    def _why(self, images: Tally) -> str:
        """Return why images cannot be used, and what to do about it."""
        broken = self._annotations.broken
        parts = [*images.parts(), *broken.parts()] or ["it names none"]
        reasons = [*images.counts, *([ONLY_BROKEN] if broken.total else [])]
        return f"{'; '.join(parts)}: {next((ADVICE[reason] for reason in ADVICE if reason in reasons), 'add images')}"

    def _empty(self) -> Tally:
        """Return why images have no object."""
        known, empty = self._annotations, self._annotations.object_counts == 0
        crowds = empty & np.isin(self.image_ids, known.crowds[:, 0])
        broken = empty & ~crowds & np.isin(self.image_ids, known.broken_of)
        return self._counted({ONLY_CROWDS: crowds, ONLY_BROKEN: broken, NO_OBJECT: empty & ~crowds & ~broken})

    def _counted(self, images: dict[str, np.ndarray]) -> Tally:
        """Return a tally of images, of which (N,) says for each reason which they are."""
        tally = Tally()
        for reason, chosen in images.items():
            if count := int(chosen.sum()):
                tally.add(reason, self.names[int(chosen.argmax())], count)
        return tally

    def take(self, rows: np.ndarray) -> "CocoImages":
        """Return the images of these rows only."""
        taken = copy(self)
        taken._annotations = self._annotations.take(rows)
        return taken

    def without_empty(self) -> "CocoImages":
        """Return the images with an object and sides of at least 32 pixels, which MMDetection trains on."""
        objects = self._annotations.object_counts > 0
        large = self._annotations.sizes.min(1, initial=SMALLEST_SIDE) >= SMALLEST_SIDE
        taken = self.take(np.flatnonzero(objects & large))
        taken._left_out = self._empty()
        taken._left_out.update(self._counted({SMALL: objects & ~large}))
        return taken

    def _path(self, index: int) -> str:
        return str(self.folder / self._annotations.names[index])


def collate(samples: list[tuple[Tensor, Target]]) -> tuple[list[Tensor], list[Target]]:
    """Collate [(image, target), ...] to ([image, ...], [target, ...]), without padding, which detectors do."""
    return [image for image, _ in samples], [target for _, target in samples]
