"""Images with a class for every pixel, from a folder of images and one of label maps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from foveal.tasks.image_files import load_rgb_of_size
from foveal.tasks.segmentation.data.label_maps import label_map_size, label_table, labels_of, read_label_map
from foveal.tasks.segmentation.data.layout import find_pairs, find_split, read_classes
from foveal.training.samples import BrokenSample


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
