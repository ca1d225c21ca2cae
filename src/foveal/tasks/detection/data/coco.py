"""Images with boxes, labels and masks, from a folder in COCO's layout."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from foveal.errors import FovealError
from foveal.tasks.detection.data.annotations import Annotations, check_annotations
from foveal.tasks.detection.data.layout import Split, find_split, gc_disabled, read_annotations, read_categories
from foveal.tasks.detection.rle import decode_runs
from foveal.tasks.image_files import load_rgb_of_size
from foveal.training.config import Broken
from foveal.training.samples import BrokenSample

Empty = Literal["keep", "drop"]
Target = dict[str, Tensor]
SMALLEST_SIDE = 32  # pixels, of images that ``empty="drop"`` keeps; MMDetection's filter


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
    """

    def __init__(self, split: Split, annotations: Annotations, categories: dict[int, str], masks: bool) -> None:
        self.annotation_file, self.folder, self.masks = split.annotations, split.images, masks
        self.classes, self.category_ids = list(categories.values()), list(categories)
        self.transform: Callable[[Tensor, Target], Any] | None = None
        self.problems = [f"{problem}." for problem in annotations.problems]
        self._annotations = annotations

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
        """Return the annotation file's content for an evaluator, without skipped entries and dropped images.

        The file is read again: keeping its content would take many times the memory of the arrays here.
        """
        content = read_annotations(self.annotation_file)
        images = {image.get("id"): image for image in reversed(content["images"])}  # the first of two with the same id
        wanted = set(self.image_ids)
        return {
            **content,
            "images": [images[number] for number in self.image_ids],
            "annotations": [
                entry
                for position, entry in enumerate(content["annotations"])
                if position not in self._annotations.skipped and entry["image_id"] in wanted
            ],
        }

    @property
    def notices(self) -> list[str]:
        """A sentence about the entries of the annotation file that were skipped, if there are any."""
        if not self.problems:
            return []
        entries = "a broken entry" if len(self.problems) == 1 else f"{len(self.problems)} broken entries"
        return [f"{self.annotation_file} has {entries}, left out here; the first: {self.problems[0]}"]

    @property
    def has_objects(self) -> bool:
        """Whether any image has an object."""
        return bool((self._annotations.spans[:, 1] > self._annotations.spans[:, 0]).any())

    def without_empty(self) -> "CocoImages":
        """Return the images with an object and sides of at least 32 pixels, which MMDetection trains on."""
        spans, sizes = self._annotations.spans, self._annotations.sizes
        rows = np.flatnonzero((spans[:, 1] > spans[:, 0]) & (sizes.min(1) >= SMALLEST_SIDE))
        categories = dict(zip(self.category_ids, self.classes, strict=True))
        split = Split(self.annotation_file, self.folder)
        return CocoImages(split, self._annotations.take(rows), categories, self.masks)

    def _path(self, index: int) -> str:
        return str(self.folder / self._annotations.names[index])


def open_split(
    folder: str | Path, split: str, masks: bool, broken: Broken = "stop", empty: Empty = "keep"
) -> CocoImages:
    """Open the images of one split ("train", "val") of a folder in COCO's layout.

    The layout is ``annotations/instances_<split>2017.json`` and ``<split>2017/``, or both without the year. All
    annotations are checked before an image is read. Boxes that extend beyond their image are clipped.

    Args:
        folder: in COCO's layout.
        split: name of the split.
        masks: targets have masks; every annotation must then have one.
        broken: on an invalid entry ``stop`` (raise), or ``skip`` it and report it in ``problems``.
        empty: ``keep`` or ``drop`` images without an object or with a side below 32 pixels.

    Raises:
        FovealError: files are missing or have invalid entries; the message names the first and their number.
    """
    found = find_split(Path(folder), split)
    with gc_disabled():
        content = read_annotations(found.annotations)
        categories = read_categories(content, found.annotations)
        annotations = check_annotations(content, found, list(categories), masks)
        del content
    if annotations.problems and broken == "stop":
        raise FovealError(_summary(annotations.problems))
    images = CocoImages(found, annotations, categories, masks)
    if empty == "drop":
        images = images.without_empty()
    if not len(images):
        raise FovealError(f"{found.annotations} has no usable image: add images, or choose another folder.")
    return images


def open_train_and_val(
    folder: str | Path, masks: bool, broken: Broken = "stop", empty: Empty = "keep"
) -> tuple[CocoImages, CocoImages]:
    """Open the training and validation splits; ``empty`` applies to training images only. See ``open_split``.

    Raises:
        FovealError: as ``open_split``, or the splits' categories differ, or there is no object to train on.
    """
    for split in ("train", "val"):
        find_split(Path(folder), split)
    train = open_split(folder, "train", masks, broken, empty)
    if not train.has_objects:
        raise FovealError(f"{train.annotation_file} has no object to train on: add annotations.")
    val = open_split(folder, "val", masks, broken)
    known, found = (dict(zip(images.category_ids, images.classes, strict=True)) for images in (train, val))
    for number in sorted({*known, *found}):
        if known.get(number) != found.get(number):
            raise FovealError(
                f"Category {number} is {known.get(number)!r} in {train.annotation_file} and {found.get(number)!r} in "
                f"{val.annotation_file}: both must have the same categories."
            )
    return train, val


def _summary(problems: list[str]) -> str:
    if len(problems) == 1:
        return f"{problems[0]}: repair it, or pass --broken skip to leave it out."
    return (
        f"{problems[0]}, and {len(problems) - 1} more of its entries are broken: repair them, or pass --broken skip to "
        "leave them out."
    )


def collate(samples: list[tuple[Tensor, Target]]) -> tuple[list[Tensor], list[Target]]:
    """Collate [(image, target), ...] to ([image, ...], [target, ...]), without padding, which detectors do."""
    return [image for image, _ in samples], [target for _, target in samples]
