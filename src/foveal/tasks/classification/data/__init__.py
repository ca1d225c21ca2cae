"""Image classification datasets, opened and checked before training starts.

``open_split`` and ``open_train_and_val`` open what ``--data`` names:

- a folder: of class folders (``class_folders``; ``unsplit`` without a validation split), of tables with any number of
  labels per image (``label_tables``), of ImageNet's archives (``imagenet``), of tar shards (``shards``), or written by
  ``save_to_disk`` of Hugging Face datasets (``hub``);
- the pattern or address of tar shards: ``DIR/train-{000..146}.tar``, ``https://...``, ``pipe:...``;
- a Hugging Face dataset: ``hf:NAME`` or ``hf:NAME:CONFIG``.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from foveal.errors import FovealError
from foveal.image_files import decode_rgb, load_rgb
from foveal.tasks.classification.data.class_folders import ClassFolders
from foveal.tasks.classification.data.classes import check_trainable, match_classes, note_uncounted, without_images
from foveal.tasks.classification.data.hub import HubDataset, is_saved_dataset
from foveal.tasks.classification.data.imagenet import ImageNet, is_imagenet
from foveal.tasks.classification.data.images import Images
from foveal.tasks.classification.data.label_tables import LabelTables, has_label_tables
from foveal.tasks.classification.data.shard_images import RemoteShards
from foveal.tasks.classification.data.shards import Shards, names_shards
from foveal.tasks.classification.data.unsplit import UnsplitFolder, is_unsplit, no_validation
from foveal.tasks.first_look import look_at_images
from foveal.tasks.held_out import HeldOut
from foveal.tasks.listing import split_names
from foveal.training.config import Broken


class Source(Protocol):
    """A source of images in splits."""

    def place(self, split: str) -> str:
        """Return the location of the split, for error messages."""
        ...

    def set_name(self, split: str) -> str:
        """Return the name of the split as results give it: that of the folder, or of the draw."""
        ...

    def check(self, split: str) -> None:
        """Raise FovealError if there is no such split, before anything is read."""
        ...

    def open(self, split: str, classes: list[str] | None = None) -> Images:
        """Open the split; ``classes`` are those of the training images, for sources that only store class numbers."""
        ...


def open_split(
    where: str | Path, split: str, transform: Callable | None = None, held_out: HeldOut | None = None
) -> Images:
    """Open the images of one split ("train", "val") of ``where``; item i is ``(transform(image), class index)``.

    Args:
        held_out: the validation images of a folder that has no split.

    Raises:
        FovealError: the split is missing or its content cannot be used.
    """
    source = source_of(where, held_out)
    images = _opened(source, split)
    images.transform, images.set_name = transform, source.set_name(split)
    if held_out is not None and images.held_out is None and split in split_names("val"):
        images.notices.append(
            f"{source.place(split)} is evaluated, and not the images that training held out for validation, since such "
            "a folder is there now."
        )
    return images


def open_train_and_val(
    where: str | Path,
    val_fraction: float | None = None,
    seed: int = 0,
    broken: Broken | None = None,
    usual_fraction: float | None = None,
) -> tuple[Images, Images]:
    """Open both splits, with the classes of train. Those without an image in one of them are in its ``notices``.

    Args:
        val_fraction: the share of each class to draw for validation, from a folder of class folders without a split.
        seed: of that draw.
        broken: what a run will do with broken images, to decode a few images of both splits now; None decodes none.
            Remote shards are not looked at, since one of their images is as slow as all before it.
        usual_fraction: ``val_fraction`` of a folder without a split, if that is None.

    Raises:
        FovealError: as ``open_split``, or there is only one class, or val has images of a class that train lacks, or
            broken images would stop the run.
    """
    source: Source = source_of(where)
    unsplit = _no_validation(source)
    if val_fraction is None and unsplit is not None:
        val_fraction = usual_fraction
    if val_fraction is not None:
        source = _drawn(source, val_fraction, seed)
    elif unsplit is not None:
        raise unsplit()
    for split in ("train", "val"):
        source.check(split)
    train = _opened(source, "train")
    check_trainable(train, source.place("train"))
    val = _opened(source, "val", train.classes)
    match_classes(val, train.classes, source.place("val"), source.place("train"))
    val.upright = train.upright
    note_uncounted(val, source.place("val"), without_images(val))
    for images, split in ((train, "train"), (val, "val")):
        if broken is not None and not isinstance(images, RemoteShards):
            images.notices += look_at_images(images.load, len(images), broken, source.place(split))
    return train, val


def _no_validation(source: Source) -> Callable[[], FovealError] | None:
    """Return the error for a source that has no validation images if none should be drawn; None if it has some."""
    if isinstance(source, LabelTables):
        return source.no_validation if source.is_unsplit else None
    if isinstance(source, ClassFolders) and is_unsplit(source.root):
        return partial(no_validation, source.root)
    return None


def _drawn(source: Source, fraction: float, seed: int) -> Source:
    if isinstance(source, LabelTables):
        return source.drawn(fraction, seed)
    if not isinstance(source, ClassFolders):
        raise FovealError("--val-fraction is for class folders without a split, and --data is none: leave it out.")
    return UnsplitFolder.draw(source.root, fraction, seed)


def _opened(source: Source, split: str, classes: list[str] | None = None) -> Images:
    images = source.open(split, classes)
    if not len(images):
        raise FovealError(f"{source.place(split)} has no image: add images of each class.")
    return images


def source_of(where: str | Path, held_out: HeldOut | None = None) -> Source:
    """Return the source that ``where`` names, recognised by its spelling or by what is in the folder.

    Args:
        held_out: the validation images, for class folders without a split.
    """
    text = re.sub(r"\b(https?|s3|gs):/(?!/)", r"\1://", str(where))  # Path collapses two slashes into one
    if text.startswith("hf:"):
        return HubDataset(text.removeprefix("hf:"))
    if names_shards(text):
        return Shards(text)
    root = Path(where)
    if is_saved_dataset(root):
        return HubDataset(root)
    if has_label_tables(root):
        return LabelTables(root, held_out)
    if is_imagenet(root):
        return ImageNet(root)
    return ClassFolders(root) if held_out is None or not is_unsplit(root) else UnsplitFolder(root, held_out)


__all__ = ["Images", "decode_rgb", "load_rgb", "match_classes", "open_split", "open_train_and_val", "source_of"]
