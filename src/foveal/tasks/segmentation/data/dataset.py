"""Datasets of images with a class for each pixel, and their label maps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from foveal.tasks.image_files import load_rgb_of_size, opened_image
from foveal.tasks.segmentation.data.folders import Pairs, find_pairs, find_split, read_classes
from foveal.tasks.segmentation.segmenter import IGNORED
from foveal.training.samples import BrokenSample

INVALID = -1  # label of a value that stands for no class
NUMBERS = 256  # values of an 8-bit pixel


def label_map_size(path: Path) -> tuple[int, int]:
    """Return (width, height) in pixels; only the file's header is decoded.

    Raises:
        BrokenSample: the file is missing or not an image.
    """
    with opened_image(path) as image:
        return image.size


def read_label_map(path: Path) -> np.ndarray:
    """Return the values (H, W) stored in a label map: 8-bit or 16-bit grey, or palette indices.

    Raises:
        BrokenSample: the file is missing, cannot be read, or does not store a number for each pixel.
    """
    with opened_image(path) as image:
        if not _has_numbers(image):
            raise BrokenSample(
                str(path),
                f"{path} has mode {_layout(image)}, and a label map stores a class number for each pixel: save it as a "
                "PNG with 8-bit or 16-bit grey, or with a palette whose indices are the classes.",
            )
        return np.array(image)


def _has_numbers(image: Image.Image) -> bool:
    """Refuse grey of fewer than 8 bits: Pillow stretches it to 8 bits, and not every writer does."""
    return _layout(image) in ("L", "P", "I") or image.mode.startswith("I;16")


def _layout(image: Image.Image) -> str:
    """Return the mode, or the pixel layout within the file if that says more: 2-bit and 4-bit grey are L;2 and L;4."""
    tiles = getattr(image, "tile", None)
    layout = tiles[0][3] if tiles else None
    return layout if layout in ("L;2", "L;4") else image.mode


def label_table(num_classes: int, zero_ignored: bool) -> np.ndarray:
    """Return (257,) int64: the label of each value, ``IGNORED`` or ``INVALID``; the last entry is for all other values.

    Args:
        num_classes: number of classes.
        zero_ignored: 0 is ignored and class 0 is stored as 1 (MMSegmentation's ``reduce_zero_label``).
    """
    first = int(zero_ignored)
    classes = min(num_classes, IGNORED - first)
    table = np.full(NUMBERS + 1, INVALID, dtype=np.int64)
    table[first : first + classes] = np.arange(classes)
    table[:first] = table[IGNORED] = IGNORED
    return table


def labels_of(numbers: np.ndarray, table: np.ndarray, path: Path) -> np.ndarray:
    """Convert a label map's values to labels (H, W) int64 with a ``label_table``.

    Raises:
        BrokenSample: a value stands for no class; the message names the first one.
    """
    # Negative values, which 32-bit images can hold, become the largest.
    labels = table[numbers if numbers.dtype == np.uint8 else np.minimum(numbers.astype(np.uint32), NUMBERS)]
    if labels.min() == INVALID:
        y, x = np.argwhere(labels == INVALID)[0]
        last = np.flatnonzero(table[:IGNORED] != INVALID)[-1]
        ignored = f"0 and {IGNORED}" if table[0] == IGNORED else f"{IGNORED}"
        raise BrokenSample(
            str(path),
            f"{path} has the value {numbers[y, x]} at x={x}, y={y}; only 0 to {last} and {IGNORED} are allowed, with "
            f"{ignored} for ignored pixels: correct the label map, or name every class in classes.txt.",
        )
    return labels


class LabelledImages(Dataset):
    """Dataset whose item i is ``transform(image, labels)``, with image uint8 (3, H, W) and labels int64 (H, W).

    Labels range from 0 to ``len(classes) - 1``; ignored pixels have ``IGNORED``. Images are turned by their EXIF
    orientation, unless only the unturned one has the size of its label map; see ``image``.

    Attributes:
        classes: class names, indexed by label.
        paths: image files.
        label_paths: label map files, one per image.
        transform: function of (image, labels); None returns the image as float in [0, 1] and the labels.
        notices: sentences about what was found beside the images and left out.
    """

    def __init__(self, pairs: Pairs, classes: list[str], *, zero_ignored: bool) -> None:
        """``zero_ignored``: whether 0 in label maps marks ignored pixels, and 1 the first class."""
        self.classes = classes
        self.paths, self.label_paths = [image for image, _ in pairs.files], [labels for _, labels in pairs.files]
        self.notices = pairs.notices
        self.transform: Callable[[Tensor, Tensor], Any] | None = None
        self._table = label_table(len(classes), zero_ignored)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        image, labels = self.image(index), self.labels(index)
        return (image / 255, labels) if self.transform is None else self.transform(image, labels)

    def name(self, index: int) -> str:
        """Return the common name of image and label map, without folder and extension."""
        return self.paths[index].stem

    def image(self, index: int) -> Tensor:
        """Return image ``index``, uint8 (3, H, W) in channels-last memory format, which is faster to resize.

        It is turned by its EXIF orientation, as in detection, unless its label map only has the size of the unturned
        image. For square label maps and rotations by 180 degrees, the size does not decide.

        Raises:
            BrokenSample: it cannot be read, or its label map has another size.
        """
        path, label_path = self.paths[index], self.label_paths[index]
        width, height = label_map_size(label_path)
        image = load_rgb_of_size(path, (width, height))
        if image.size != (width, height):
            raise BrokenSample(
                str(label_path),
                f"{label_path} has {width}x{height} pixels, and its image {path} has {image.width}x{image.height}: "
                "replace one of them.",
            )
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    def labels(self, index: int) -> Tensor:
        """Return the labels of image ``index``, int64 (H, W); the image itself is not read.

        Raises:
            BrokenSample: the label map cannot be read, is not a label map, or has a value that stands for no class.
        """
        path = self.label_paths[index]
        return torch.from_numpy(labels_of(read_label_map(path), self._table, path))


def open_split(folder: str | Path, split: str, *, zero_ignored: bool) -> LabelledImages:
    """Open the images and label maps of one split ("train", "val").

    Two layouts are supported:

    - ADE20K as unpacked: ``images/training/*.jpg``, ``annotations/training/*.png``, and ``validation``;
    - custom: ``images/<split>`` or ``<split>`` with images in any format that Pillow reads, PNG label maps of the same
      names in ``annotations/<split>`` or ``labels/<split>``, and ``classes.txt`` with one name per line. The synthetic
      shapes use this layout. In ADE20K's layout such a file is optional.

    It is checked here that every image has a label map; their content is checked when they are read.

    Args:
        folder: root of the dataset.
        split: name of the split.
        zero_ignored: 0 in label maps marks ignored pixels and class 0 is stored as 1, as in ADE20K; otherwise classes
            count from 0. 255 is always ignored.

    Raises:
        FovealError: folders, label maps or class names are missing or inconsistent.
    """
    folders = find_split(Path(folder), split)
    return LabelledImages(find_pairs(folders, split), read_classes(folders), zero_ignored=zero_ignored)


def open_train_and_val(folder: str | Path, *, zero_ignored: bool) -> tuple[LabelledImages, LabelledImages]:
    """Open the training and validation splits; see ``open_split``."""
    train, val = (open_split(folder, split, zero_ignored=zero_ignored) for split in ("train", "val"))
    return train, val
