"""Open the images of a split, or of both, from a folder in any layout (see ``layout``)."""

from pathlib import Path
from typing import Literal

import numpy as np

from foveal.errors import FovealError
from foveal.tasks.detection.data.annotations import check_annotations
from foveal.tasks.detection.data.coco import CocoImages
from foveal.tasks.detection.data.coco_file import NOTICES, Split, gc_disabled, read_categories
from foveal.tasks.detection.data.image_entries import NO_FILE
from foveal.tasks.detection.data.layout import find_split, search_split, search_whole
from foveal.tasks.first_look import look_at_images
from foveal.tasks.held_out import HeldOut, draw
from foveal.tasks.listing import few, split_names
from foveal.training.config import Broken

DRAW_THEM = ", or pass --val-fraction 0.2 to draw validation images from those that are there"
Empty = Literal["keep", "drop"]


def open_split(
    folder: str | Path,
    split: str,
    masks: bool,
    broken: Broken = "stop",
    empty: Empty = "keep",
    *,
    classes: dict[int, str] | None = None,
    held_out: HeldOut | None = None,
) -> CocoImages:
    """Open the images of one split ("train", "val") of a folder.

    All annotations are checked before an image is read. Boxes that extend beyond their image are clipped.

    Args:
        folder: in COCO's layout, or an export of Roboflow, Label Studio or CVAT, or with YOLO's labels.
        split: name of the split.
        masks: targets have masks; every annotation must then have one.
        broken: on an invalid entry ``stop`` (raise), or ``skip`` it and report it in ``problems``.
        empty: ``keep`` or ``drop`` images without an object or with a side below 32 pixels.
        classes: category id -> name, used instead of the file's categories, which are matched by name.
        held_out: the validation images of a folder that has no validation split.

    Raises:
        FovealError: files are missing or have invalid entries; the message names the first and their number.
    """
    folder = Path(folder)
    if held_out is not None and split in split_names("val") and search_split(folder, "val") is None:
        return _held_out(_open(_undivided(folder), masks, broken, classes, files_may_miss=True), held_out)
    images = _open(find_split(folder, split), masks, broken, classes)
    if held_out is not None and split in split_names("val"):
        images.remarks.append(
            f"{folder} has validation images of its own, {images.annotation_file}: they are read, and not the "
            f"{len(held_out.names):,} that training held out."
        )
    if empty == "drop":
        images = images.without_empty()
    images.check_images()
    return images


def open_train_and_val(
    folder: str | Path,
    masks: bool,
    broken: Broken = "stop",
    empty: Empty = "keep",
    *,
    val_fraction: float | None = None,
    seed: int = 0,
) -> tuple[CocoImages, CocoImages]:
    """Open the training and validation images; ``empty`` applies to training images only. See ``open_split``.

    Up to eight images of each set are decoded: what would stop a run later is found at its start.

    Args:
        val_fraction: draw this share of the images for validation, by their rarest class, instead of a split.
        seed: of the draw.

    Raises:
        FovealError: as ``open_split``, or an image that is looked at cannot be read, or validation has an object of a
            class that training has not, or one has none.
    """
    folder = Path(folder)
    if val_fraction is None:
        train, val = _both_splits(folder, masks, broken)
    else:
        train, val = _drawn(folder, masks, broken, val_fraction, seed)
    if empty == "drop":
        train = train.without_empty()
    train.check_images()
    for images, use in ((train, "train on"), (val, "evaluate")):
        images.check_objects(use)
    for images in (train, val):
        images.remarks += look_at_images(images.image, len(images), broken, images.annotation_file)
    return train, val


def _open(
    split: Split, masks: bool, broken: Broken, classes: dict[int, str] | None = None, files_may_miss: bool = False
) -> CocoImages:
    with gc_disabled():
        content = split.read()
        split = split.rooted(content["images"])
        categories = read_categories(content, split.annotations)
        if classes is not None:
            categories = categories.matched(classes)
        annotations = check_annotations(content, split, categories, masks)
        remarks = content.get(NOTICES, [])
        del content
    if annotations.foreign_objects.total:
        raise FovealError(
            f"{split.annotations} has objects of classes that training does not have, {annotations.foreign_objects}: "
            f"name its categories as in training ({few(list(categories.names.values()))}), or pass other --data."
        )
    tolerated = {NO_FILE} if files_may_miss else set()
    if broken == "stop" and not tolerated.issuperset(annotations.broken.counts):
        raise FovealError(_summary(annotations.problems))
    return CocoImages(split, annotations, categories, masks, remarks)


def _both_splits(folder: Path, masks: bool, broken: Broken) -> tuple[CocoImages, CocoImages]:
    splits = [find_split(folder, name, DRAW_THEM) for name in ("train", "val")]  # both are found before one is read
    train = _open(splits[0], masks, broken)
    known = dict(zip(train.category_ids, train.classes, strict=True))
    val = _open(splits[1], masks, broken, known)
    val.check_images()
    if train.folder == val.folder and (both := set(train.names) & set(val.names)):
        shared = "is a training image" if len(both) == 1 else "are training images"
        val.remarks.append(
            f"{len(both):,} of {len(val):,} validation images {shared} as well, so their figures say "
            f"nothing about others; the first: {min(both)}."
        )
    return train, val


def _undivided(folder: Path) -> Split:
    """Return the training split of a folder, or all of its images if it has no split."""
    return search_split(folder, "train") or search_whole(folder) or find_split(folder, "train")


def _drawn(folder: Path, masks: bool, broken: Broken, fraction: float, seed: int) -> tuple[CocoImages, CocoImages]:
    if search_split(folder, "val") is not None:
        raise FovealError(f"{folder} has validation images of its own: leave --val-fraction out.")
    images = _open(_undivided(folder), masks, broken)
    images.check_images()
    val = _held_out(images, draw(images.names, images.rarest_labels(), fraction, seed))
    train = images.take(np.flatnonzero(~np.isin(images.names, val.names)))
    verb = "was" if len(val) == 1 else "were"
    train.remarks = [
        *images.remarks,
        f"{len(val):,} of the {len(images):,} images of {images.annotation_file} {verb} drawn for validation, by class "
        f"with seed {seed}; the checkpoints name them, and evaluation uses them.",
    ]
    return train, val


def _held_out(images: CocoImages, held_out: HeldOut) -> CocoImages:
    """Return the images that were held out."""
    val = images.take(np.flatnonzero(np.isin(images.names, held_out.names)))
    val.held_out, val.remarks = held_out, list(images.remarks)
    if missing := held_out.missing_notice(val.names, images.annotation_file):
        val.remarks.append(missing)
    return val


def _summary(problems: list[str]) -> str:
    if len(problems) == 1:
        return f"{problems[0]}: repair it, or pass --broken skip to leave it out."
    return (
        f"{problems[0]}, and {len(problems) - 1} more of its entries are broken: repair them, or pass --broken skip to "
        "leave them out."
    )
