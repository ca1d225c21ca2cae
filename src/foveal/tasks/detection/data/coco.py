"""Images with boxes, labels and masks, from a folder in COCO's layout."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from foveal.errors import FovealError
from foveal.tasks.detection.data.layout import Place, find_split, read_annotations, read_categories, resting_collector
from foveal.tasks.detection.data.runs import decode
from foveal.tasks.detection.data.table import Table, make_table
from foveal.tasks.image_files import load_rgb_of_size
from foveal.training.config import Broken
from foveal.training.samples import BrokenSample

Empty = Literal["keep", "drop"]
Target = dict[str, Tensor]
SMALLEST_SIDE = 32  # of the images that ``empty="drop"`` keeps, in pixels; MMDetection's filter


class CocoImages(Dataset):
    """Item i is ``transform(image, target)``: the image uint8 (3, H, W) and a dict of what is in it.

    - ``boxes`` (N, 4) float32, (x1, y1, x2, y2) in pixels, cut at the image's border; ``labels`` (N,) int64 from 0;
    - ``area`` (N,) float32 in pixels, as the file tells it; ``iscrowd`` (N,) int64, all 0;
    - ``image_id`` int64, 0-d; and if wanted ``masks`` (N, H, W) uint8 of 0 and 1.

    Crowds are in no target, as in MMDetection: what is trained on are single objects. An evaluation, which must pass
    over what is found in them, takes ``ground_truth``.

    Attributes:
        classes: names, in the order of category ids; a label is an index into them.
        category_ids: of each label the category id.
        image_ids: of each image the id.
        annotation_file: the file that all this is from.
        transform: (image, target) -> what the loader gives; None for the image as float in [0, 1] and the target.
        problems: a sentence about each entry of the file that was skipped.
    """

    def __init__(self, place: Place, table: Table, categories: dict[int, str], masks: bool) -> None:
        self.annotation_file, self.folder, self.masks = place.annotations, place.images, masks
        self.classes, self.category_ids = list(categories.values()), list(categories)
        self.transform: Callable[[Tensor, Target], Any] | None = None
        self.problems = [f"{problem}." for problem in table.problems]
        self._table = table

    @property
    def image_ids(self) -> list[int]:
        return self._table.image_ids

    @property
    def paths(self) -> list[str]:
        """Of each image the file."""
        return [self._path(index) for index in range(len(self))]

    def __len__(self) -> int:
        return len(self._table.image_ids)

    def __getitem__(self, index: int) -> Any:
        image, target = self.image(index), self.target(index)
        return (image / 255, target) if self.transform is None else self.transform(image, target)

    def image(self, index: int) -> Tensor:
        """Image ``index``, uint8 (3, H, W), turned as its camera says unless the annotations know it unturned.

        Raises BrokenSample where it cannot be read or has another size.
        """
        path = self._path(index)
        height, width = self._table.sizes[index].tolist()
        image = load_rgb_of_size(path, (width, height))
        if image.size != (width, height):
            raise BrokenSample(
                path,
                f"{path} has {image.width}x{image.height} pixels, and {self.annotation_file} says {width}x{height}: "
                "replace the image or correct the file.",
            )
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()

    def target(self, index: int) -> Target:
        """What is in image ``index``; the image itself is not read."""
        objects, (first, last) = self._table.objects, self._table.spans[index].tolist()
        target = {
            "boxes": torch.from_numpy(objects.boxes[first:last].copy()),
            "labels": torch.from_numpy(objects.labels[first:last].copy()),
            "area": torch.from_numpy(objects.areas[first:last].copy()),
            "iscrowd": torch.zeros(last - first, dtype=torch.int64),
            "image_id": torch.tensor(self._table.image_ids[index]),
        }
        if self.masks:
            height, width = self._table.sizes[index].tolist()
            masks = np.zeros((last - first, height, width), dtype=np.uint8)
            for mask, number in zip(masks, range(first, last), strict=True):
                mask[:] = decode(objects.run(number), height, width)
            target["masks"] = torch.from_numpy(masks)
        return target

    def ground_truth(self) -> dict[str, Any]:
        """The annotation file's content for an evaluator, without what was skipped and without images left out.

        It is read again: a copy that stays would be many times larger than the arrays here.
        """
        content = read_annotations(self.annotation_file)
        images = {image.get("id"): image for image in reversed(content["images"])}  # of two with one id the first
        wanted = set(self.image_ids)
        return {
            **content,
            "images": [images[number] for number in self.image_ids],
            "annotations": [
                entry
                for position, entry in enumerate(content["annotations"])
                if position not in self._table.skipped and entry["image_id"] in wanted
            ],
        }

    @property
    def has_objects(self) -> bool:
        """Whether there is an object in any of the images."""
        return bool((self._table.spans[:, 1] > self._table.spans[:, 0]).any())

    def without_empty(self) -> "CocoImages":
        """The images with an object and sides of at least 32 pixels, which MMDetection trains on."""
        spans, sizes = self._table.spans, self._table.sizes
        rows = np.flatnonzero((spans[:, 1] > spans[:, 0]) & (sizes.min(1) >= SMALLEST_SIDE))
        place = Place(self.annotation_file, self.folder)
        table = self._table.take(rows)
        return CocoImages(place, table, dict(zip(self.category_ids, self.classes, strict=True)), self.masks)

    def _path(self, index: int) -> str:
        return str(self.folder / self._table.names[index])


def open_split(
    folder: str | Path, split: str, masks: bool, broken: Broken = "stop", empty: Empty = "keep"
) -> CocoImages:
    """The images of one split ("train", "val") of a folder in COCO's layout.

    That is ``annotations/instances_<split>2017.json`` and ``<split>2017/``, or both without the year. The annotations
    are all checked before an image is read. A box that leaves its image in part is cut at the border.

    Args:
        masks: targets have masks, and every annotation must have one.
        broken: what a broken entry does: ``stop`` (raise), or ``skip`` (leave it out and tell it in ``problems``).
        empty: images without an object, and those with a side below 32 pixels: ``keep`` or ``drop`` them.

    Raises:
        FovealError: files are missing, or something in them is broken; the sentence tells the first and how many.
    """
    place = find_split(Path(folder), split)
    with resting_collector():
        content = read_annotations(place.annotations)
        categories = read_categories(content, place.annotations)
        table = make_table(content, place, list(categories), masks)
        del content
    if table.problems and broken == "stop":
        raise FovealError(_first_of(table.problems))
    images = CocoImages(place, table, categories, masks)
    if empty == "drop":
        images = images.without_empty()
    if not len(images):
        raise FovealError(f"{place.annotations} has no image that can be used: add images, or choose another folder.")
    return images


def open_train_and_val(
    folder: str | Path, masks: bool, broken: Broken = "stop", empty: Empty = "keep"
) -> tuple[CocoImages, CocoImages]:
    """Both splits, which must have the same categories; ``empty`` is about those of train, val keeps all.

    Raises:
        FovealError: as ``open_split``, or the categories differ, or there is no object to train on.
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


def _first_of(problems: list[str]) -> str:
    if len(problems) == 1:
        return f"{problems[0]}: repair it, or pass --broken skip to leave it out."
    return (
        f"{problems[0]}, and {len(problems) - 1} more of its entries are broken: repair them, or pass --broken skip to "
        "leave them out."
    )
