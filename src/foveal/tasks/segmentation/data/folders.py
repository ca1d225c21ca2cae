"""Folder layouts of images and label maps."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from foveal.errors import FovealError
from foveal.tasks.listing import find_entry, is_hidden, split_names, subfolders, walk_images
from foveal.tasks.segmentation.data.class_names import ROBOFLOW_FILE
from foveal.tasks.segmentation.data.label_maps import label_map_endings

IMAGES = "images"
LABEL_MAPS = ("annotations", "labels", "masks")
ADE20K_SPLITS = ("training", "validation")
ROBOFLOW_SUFFIX = "_mask"
# Pascal VOC's folders, which CVAT's exports of segmentation masks have, too.
VOC_LABEL_MAPS, VOC_IMAGES, VOC_LISTS = "SegmentationClass", "JPEGImages", ("ImageSets", "Segmentation")


@dataclass(frozen=True)
class SplitFolders:
    """Where the images and label maps of one split are within ``root``.

    Attributes:
        root: the folder of the data set.
        images, labels: the folders; the same one if label maps lie beside their images.
        suffix: what a label map's name has after that of its image, before the ending.
        listing: the file that lists the names of the split; None if the folders hold nothing else.
    """

    root: Path
    images: Path
    labels: Path
    suffix: str = ""
    listing: Path | None = None

    @property
    def is_ade20k(self) -> bool:
        """Whether the folders are named as in ADE20K's archive."""
        published = [(self.root / IMAGES / long, self.root / "annotations" / long) for long in ADE20K_SPLITS]
        return (self.images, self.labels) in published

    @property
    def set_name(self) -> str:
        """The name of the split that was found, such as "validation"."""
        if self.listing is not None:
            return self.listing.stem
        return self.images.parent.name if self.images.name.casefold() == IMAGES else self.images.name

    @property
    def shared(self) -> list[str]:
        """The subfolders, such as Cityscapes' cities, that images and label maps both have."""
        if self.images in (self.labels, self.root):
            return []
        return [name for name in subfolders(self.images) if (self.labels / name).is_dir()]


def find_split(root: Path, split: str, suffix: str | None = None, advice: str = "") -> SplitFolders:
    """Find the images and label maps of a split.

    Images are in ``images/<split>``, ``<split>/images`` or ``<split>``, and label maps in a folder of the same form
    with ``annotations``, ``labels`` or ``masks`` in place of ``images``. Other layouts are Pascal VOC's, and label maps
    beside their images: Roboflow's, whose names end in "_mask", or any with a ``suffix``. All names may have any case.

    Args:
        root: folder of the dataset.
        split: "train" or "val"; the folders may have any of its ``split_names``.
        suffix: what a label map's name has after that of its image; None if the layout says it.
        advice: end of the error sentence if there is no such split.

    Raises:
        FovealError: a folder is missing.
    """
    _check_folder(root)
    if find_entry(root, VOC_LABEL_MAPS).is_dir():
        lists = _voc_lists(root, split)
        listing = next((file for file in lists if file.is_file()), None)
        if listing is None:
            raise FovealError(
                f"There is no {lists[0]}: write the names of the images of {split} into it, one per line{advice}."
            )
        return _voc(root, suffix, listing)
    found = _find(root, split_names(split), suffix)
    if found is None:
        above = [root / IMAGES, root]
        places = ", ".join(str(folder / name) for folder, name in product(above, split_names(split)))
        raise FovealError(f"{root} has no images of {split}: put them into one of {places}{advice}.")
    return found


def find_whole(root: Path, suffix: str | None = None) -> SplitFolders:
    """Find the images and label maps of a folder that has no validation split, in the layouts of ``find_split``.

    They are those of the training split, or if there is none, directly in ``images`` and the folder of label maps, or
    of all lists in Pascal VOC's layout.

    Raises:
        FovealError: there are none, or there is a validation split.
    """
    _check_folder(root)
    if has_split(root, "val"):
        raise FovealError(f"{root} has images for validation: leave --val-fraction out.")
    if find_entry(root, VOC_LABEL_MAPS).is_dir():
        lists = sorted(find_entry(root, *VOC_LISTS).glob("*.txt"))
        return _voc(root, suffix, lists[0] if len(lists) == 1 else None)
    found = _find(root, split_names("train"), suffix) or _find(root, ("",), suffix)
    if found is None:
        raise FovealError(f"{root} has no images: put them into {root / IMAGES}.")
    return found


def _check_folder(root: Path) -> None:
    if not root.is_dir():
        raise FovealError(f"There is no folder {root}: pass --data with a folder of images and label maps.")


def has_split(root: Path, split: str) -> bool:
    """Return whether a folder has images of a split, or a list of them."""
    if find_entry(root, VOC_LABEL_MAPS).is_dir():
        return any(listing.is_file() for listing in _voc_lists(root, split))
    places = product(((IMAGES,), ()), split_names(split))
    return any(find_entry(root, *above, name).is_dir() for above, name in places)


def _voc_lists(root: Path, split: str) -> list[Path]:
    return [find_entry(root, *VOC_LISTS, f"{name}.txt") for name in split_names(split)]


def _find(root: Path, names: tuple[str, ...], suffix: str | None) -> SplitFolders | None:
    """Find the folders of a split that has one of these names; "" stands for no split."""
    inside = [place for name in names for place in (find_entry(root, name, IMAGES), find_entry(root, name))]
    places = [*(find_entry(root, IMAGES, name) for name in names), *inside]
    images = next((folder for folder in places if folder.is_dir()), None)
    if images is None:
        return None
    found = _label_map_folders(root, names)
    labels = next((folder for folder in found if _has_label_map(folder)), found[0] if found else None)
    if labels is not None:
        return SplitFolders(root, images, labels, suffix or "")
    if suffix or (images / ROBOFLOW_FILE).is_file():
        return SplitFolders(root, images, images, suffix or ROBOFLOW_SUFFIX)
    wanted = ", ".join(str(root / above / name) for above, name in product(LABEL_MAPS, names))
    raise FovealError(
        f"The images in {images} have no label maps: put them into one of {wanted}; or, if they lie beside the images, "
        "pass --mask-suffix with what their names have after those of the images."
    )


def _label_map_folders(root: Path, names: tuple[str, ...]) -> list[Path]:
    outside = [find_entry(root, above, name) for above, name in product(LABEL_MAPS, names)]
    inside = [find_entry(root, name, below) for name, below in product(names, LABEL_MAPS)]
    return [folder for folder in [*outside, *inside] if folder.is_dir()]


def _has_label_map(folder: Path) -> bool:
    """Look no further than the first one, in the folder and then in those within: there may be many."""
    endings = label_map_endings()
    names = (name for _, _, files in os.walk(folder) for name in files)
    return any(os.path.splitext(name)[1].lower() in endings and not is_hidden(name) for name in names)


def _voc(root: Path, suffix: str | None, listing: Path | None) -> SplitFolders:
    images = next((folder for name in (VOC_IMAGES, IMAGES) if (folder := find_entry(root, name)).is_dir()), None)
    if images is None:
        raise FovealError(
            f"{root / VOC_LABEL_MAPS} has label maps, and there is no {root / VOC_IMAGES}: put the images there; CVAT "
            "exports them with the choice 'Save images'."
        )
    return SplitFolders(root, images, find_entry(root, VOC_LABEL_MAPS), suffix or "", listing)


def other_folders(folders: SplitFolders) -> list[str]:
    """Return the names of subfolders of the images whose images are not read: the label maps have no such folder."""
    if folders.listing is not None:
        return []
    read = set(folders.shared)
    within = [folders.images / name for name in subfolders(folders.images) if name not in read]
    return [folder.name for folder in within if folder != folders.labels and walk_images(folder).paths]
