"""The splits of a data set, opened from a folder: by its layout, or by a draw if the folder has none."""

from __future__ import annotations

from pathlib import Path

from foveal.errors import FovealError
from foveal.tasks.held_out import HeldOut, draw
from foveal.tasks.listing import split_names
from foveal.tasks.segmentation.data.ade20k import read_or_known
from foveal.tasks.segmentation.data.dataset import LabelledImages
from foveal.tasks.segmentation.data.folders import SplitFolders, find_split, find_whole, has_split
from foveal.tasks.segmentation.data.pairs import Pairs, find_pairs

DRAW_THEM = "; or pass --val-fraction 0.2, which draws validation images from a folder without a split"


def open_split(
    folder: str | Path,
    split: str,
    *,
    zero_ignored: bool,
    mask_suffix: str | None = None,
    held_out: HeldOut | None = None,
) -> LabelledImages:
    """Open the images and label maps of one split ("train", "val").

    These layouts are supported, with images in any format that Pillow reads and label maps in any lossless one:

    - ADE20K as unpacked: ``images/training/*.jpg``, ``annotations/training/*.png``, and ``validation``;
    - custom: see ``find_split``, and ``classes.txt`` with one name per line. The synthetic shapes use this layout;
    - Pascal VOC's, as CVAT exports it, with colours in ``labelmap.txt``;
    - Roboflow's semantic masks, with numbers in ``_classes.csv``.

    It is checked here that every image has a label map; their content is checked when they are read.

    Args:
        folder: root of the dataset.
        split: name of the split.
        zero_ignored: 0 in label maps marks ignored pixels and class 0 is stored as 1, as in ADE20K; otherwise classes
            count from 0. 255 is always ignored. A file of numbers or colours decides itself.
        mask_suffix: what a label map's name has after that of its image; None if the layout says it.
        held_out: the images that were drawn for validation, if the folder has no validation split.

    Raises:
        FovealError: folders, label maps or class names are missing or inconsistent.
    """
    root = Path(folder)
    if held_out is None or has_split(root, "val"):
        images = _open(find_split(root, split, mask_suffix), split, zero_ignored)
        if held_out is not None and split in split_names("val"):
            images.notices.append(
                f"{images.folders.images} is evaluated, and not the images that training held out for validation, "
                "since such a folder is there now."
            )
        return images
    folders = find_whole(root, mask_suffix)
    if split not in (*split_names("train"), *split_names("val")):
        raise FovealError(f"{root} has no split, only images drawn for val: leave --split out, or pass train.")
    return _of_whole(folders, zero_ignored, held_out)[int(split in split_names("val"))]


def open_train_and_val(
    folder: str | Path,
    *,
    zero_ignored: bool,
    mask_suffix: str | None = None,
    val_fraction: float | None = None,
    seed: int = 0,
) -> tuple[LabelledImages, LabelledImages]:
    """Open the training and validation splits; see ``open_split``.

    Args:
        val_fraction: share of the images of a folder without a split that is drawn for validation; None if there are
            splits. The classes are not regarded: all label maps would have to be read.
        seed: of the draw.

    Raises:
        FovealError: as ``open_split``, or the splits' classes differ.
    """
    root = Path(folder)
    if val_fraction is not None:
        folders = find_whole(root, mask_suffix)
        names = [_name(folders, image) for image, _ in find_pairs(folders, "train").files]
        return _of_whole(folders, zero_ignored, draw(names, ["all"] * len(names), val_fraction, seed))
    train, val = (
        _open(find_split(root, split, mask_suffix, DRAW_THEM), split, zero_ignored) for split in ("train", "val")
    )
    if train.classes != val.classes:
        raise FovealError(
            f"{train.folders.images} has the classes {', '.join(train.classes)}, and {val.folders.images} has "
            f"{', '.join(val.classes)}: give both the same classes in the same order."
        )
    return train, val


def _open(folders: SplitFolders, split: str, zero_ignored: bool) -> LabelledImages:
    pairs = find_pairs(folders, split)
    return LabelledImages(pairs, read_or_known(folders, pairs, zero_ignored), folders, zero_ignored=zero_ignored)


def _of_whole(folders: SplitFolders, zero_ignored: bool, held_out: HeldOut) -> tuple[LabelledImages, LabelledImages]:
    """Return the images that were not drawn for validation, and those that were. Drawn ones that are missing are
    noticed."""
    pairs = find_pairs(folders, "train")
    legend, names = read_or_known(folders, pairs, zero_ignored), set(held_out.names)
    found = [_name(folders, image) for image, _ in pairs.files]
    missing = held_out.missing_notice(found, folders.images)

    def those(drawn: bool, part: str) -> LabelledImages:
        files = [pair for pair, name in zip(pairs.files, found, strict=True) if (name in names) is drawn]
        images = LabelledImages(Pairs(files, pairs.notices), legend, folders, zero_ignored=zero_ignored, part=part)
        images.held_out = held_out
        return images

    train, val = those(False, f"all but {held_out.set_name}"), those(True, held_out.set_name)
    val.notices += [missing] if missing else []
    verb = "is" if len(val) == 1 else "are"
    val.notices.append(
        f"{len(val):,} of the {len(found):,} images of {folders.images} {verb} held out for validation "
        f"(--val-fraction {held_out.fraction:g} --seed {held_out.seed})."
    )
    return train, val


def _name(folders: SplitFolders, image: Path) -> str:
    return image.relative_to(folders.images).as_posix()
