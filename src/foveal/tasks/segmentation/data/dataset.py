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
from foveal.tasks.segmentation.data.folders import find_pairs, find_split, read_classes
from foveal.tasks.segmentation.segmenter import IGNORED
from foveal.training.samples import BrokenSample

WRONG = -1  # label of a number that no class has
NUMBERS = 256  # that a pixel of 8 bits may have


def label_map_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels; only the head of the file is decoded.

    Raises:
        BrokenSample: it is missing or no image.
    """
    with opened_image(path) as image:
        return image.size


def read_label_map(path: Path) -> np.ndarray:
    """The numbers (H, W) of a label map as they are stored: greys of 8 or 16 bits, or places in a palette.

    Raises:
        BrokenSample: it is missing or cannot be read, or has no number for each pixel.
    """
    with opened_image(path) as image:
        if not _has_numbers(image):
            raise BrokenSample(
                str(path),
                f"{path} is stored as {_kind(image)}, and a label map has the number of a class for each pixel: save "
                "it as PNG in grey of 8 or 16 bits, or with a palette whose places are the classes.",
            )
        return np.array(image)


def _has_numbers(image: Image.Image) -> bool:
    """Greys of fewer bits have none: Pillow stretches them to 8 bits, and not everyone who writes them does."""
    return _kind(image) in ("L", "P", "I") or image.mode.startswith("I;16")


def _kind(image: Image.Image) -> str:
    """The mode, or how pixels lie in the file where that tells more: grey of 2 and 4 bits is L;2 and L;4."""
    tiles = getattr(image, "tile", None)
    layout = tiles[0][3] if tiles else None
    return layout if layout in ("L;2", "L;4") else image.mode


def label_table(num_classes: int, zero_ignored: bool) -> np.ndarray:
    """(257,) int64: of each number the label, ``IGNORED`` or ``WRONG``; the last stands for all others.

    Args:
        zero_ignored: 0 is ignored and class 0 has the number 1; MMSegmentation calls it ``reduce_zero_label``.
    """
    first = int(zero_ignored)
    classes = min(num_classes, IGNORED - first)
    table = np.full(NUMBERS + 1, WRONG, dtype=np.int64)
    table[first : first + classes] = np.arange(classes)
    table[:first] = table[IGNORED] = IGNORED
    return table


def labels_of(numbers: np.ndarray, table: np.ndarray, path: Path) -> np.ndarray:
    """The labels (H, W) int64 of a label map's numbers, see ``label_table``.

    Raises:
        BrokenSample: a number belongs to no class; the first is named.
    """
    # Negative numbers, which 32 bits may hold, become the largest.
    labels = table[numbers if numbers.dtype == np.uint8 else np.minimum(numbers.astype(np.uint32), NUMBERS)]
    if labels.min() == WRONG:
        y, x = np.argwhere(labels == WRONG)[0]
        last = np.flatnonzero(table[:IGNORED] != WRONG)[-1]
        ignored = f"0 and {IGNORED}" if table[0] == IGNORED else f"{IGNORED}"
        raise BrokenSample(
            str(path),
            f"{path} has the number {numbers[y, x]} at x={x}, y={y}, and only 0 to {last} and {IGNORED} may be there, "
            f"{ignored} for ignored pixels: correct the label map, or name every class in classes.txt.",
        )
    return labels


class LabelledImages(Dataset):
    """Item i is ``transform(image, labels)``: the image uint8 (3, H, W), its labels int64 (H, W).

    Labels go from 0 to ``len(classes) - 1``; ignored pixels have ``IGNORED``. A label map belongs to the image as its
    camera says it is to be turned (EXIF), unless only the unturned one has its size; see ``image``.

    Attributes:
        classes: names; a label is an index into them.
        paths: of each image the file.
        label_paths: of each image its label map.
        transform: (image, labels) -> what the loader gives; None for the image as float in [0, 1] and the labels.
    """

    def __init__(self, pairs: list[tuple[Path, Path]], classes: list[str], *, zero_ignored: bool) -> None:
        """``zero_ignored``: 0 in label maps is an ignored pixel and 1 the first class; else 0 is the first class."""
        self.classes = classes
        self.paths, self.label_paths = [image for image, _ in pairs], [labels for _, labels in pairs]
        self.transform: Callable[[Tensor, Tensor], Any] | None = None
        self._table = label_table(len(classes), zero_ignored)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        image, labels = self.image(index), self.labels(index)
        return (image / 255, labels) if self.transform is None else self.transform(image, labels)

    def name(self, index: int) -> str:
        """What image and label map are both called, without folder and ending."""
        return self.paths[index].stem

    def image(self, index: int) -> Tensor:
        """Image ``index``, uint8 (3, H, W), its channels side by side in memory, which is quicker to resize.

        It is turned as its camera says, as where objects are detected; but stays as it is stored where its label map
        has only that size. Of a label map that is as wide as high, or an image that stands on its head, the size tells
        nothing.

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
        """The labels of image ``index``, int64 (H, W); the image itself is not read.

        Raises:
            BrokenSample: the label map cannot be read, or is none, or has a number that no class has.
        """
        path = self.label_paths[index]
        return torch.from_numpy(labels_of(read_label_map(path), self._table, path))


def open_split(folder: str | Path, split: str, *, zero_ignored: bool) -> LabelledImages:
    """The images of one split ("train", "val") and their label maps.

    - ADE20K as it is unpacked: ``images/training/*.jpg``, ``annotations/training/*.png``, and ``validation``;
    - one's own: ``images/<split>`` or ``<split>`` with images in any format that Pillow reads, label maps of the same
      names as PNG in ``annotations/<split>`` or ``labels/<split>``, and ``classes.txt`` with a name a line. The made
      shapes are laid out like this. In ADE20K's layout such a file counts as well, and is not needed.

    That every image has a label map is checked here, what is in them when they are read.

    Args:
        zero_ignored: 0 in label maps is an ignored pixel and class 0 has the number 1, as in ADE20K; else classes count
            from 0. 255 is ignored in any case.

    Raises:
        FovealError: folders, label maps or names of classes are missing, or do not fit together.
    """
    place = find_split(Path(folder), split)
    classes = read_classes(place)
    return LabelledImages(find_pairs(place, split), classes, zero_ignored=zero_ignored)


def open_train_and_val(folder: str | Path, *, zero_ignored: bool) -> tuple[LabelledImages, LabelledImages]:
    """Both splits; see ``open_split``.

    Raises:
        FovealError: as ``open_split``.
    """
    train, val = (open_split(folder, split, zero_ignored=zero_ignored) for split in ("train", "val"))
    return train, val
