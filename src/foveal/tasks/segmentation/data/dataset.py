"""Datasets of images with a class for each pixel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from foveal.errors import BrokenSample
from foveal.image_files import SIDEWAYS, load_rgb_of_size, opened_image
from foveal.pixels import orientation
from foveal.tasks.held_out import HeldOut
from foveal.tasks.segmentation.data.class_names import Legend
from foveal.tasks.segmentation.data.coverage import Coverage, Seen, about_absent
from foveal.tasks.segmentation.data.folders import SplitFolders
from foveal.tasks.segmentation.data.label_maps import label_map_size, labels_of, read_label_map
from foveal.tasks.segmentation.data.pairs import Pairs
from foveal.training.processes import Processes


class LabelledImages(Dataset):
    """Dataset whose item i is ``transform(image, labels)``, with image uint8 (3, H, W) and labels int64 (H, W).

    Labels range from 0 to ``len(classes) - 1``; ignored pixels have ``IGNORED``. Images are turned by their EXIF
    orientation, unless only the unturned one has the size of its label map; see ``image``.

    Attributes:
        classes: class names, indexed by label.
        paths: image files.
        label_paths: label map files, one per image.
        folders: where they are.
        held_out: which images of a folder without a split are for validation; None if there is a split.
        part: which of them are in the set, in words; empty for all.
        table: the label of each number in a label map; see ``Legend.table``.
        coverage: the numbers in all label maps that were read.
        transform: function of (image, labels); None returns the image as float in [0, 1] and the labels.
        notices: sentences about what was left out, and about classes without a pixel.
    """

    def __init__(
        self, pairs: Pairs, legend: Legend, folders: SplitFolders, *, zero_ignored: bool, part: str = ""
    ) -> None:
        """``zero_ignored``: whether 0 in label maps marks ignored pixels, and 1 the first class."""
        self.classes, self.folders, self.part = legend.classes, folders, part
        self.paths, self.label_paths = [image for image, _ in pairs.files], [labels for _, labels in pairs.files]
        self.notices = list(pairs.notices)
        self.transform: Callable[[Tensor, Tensor], Any] | None = None
        self.table, self.coverage = legend.table(zero_ignored), Coverage(len(self.paths))
        self.held_out: HeldOut | None = None
        self._legend, self._concluded = legend, False
        self._provisional: list[str] = []

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
        size = label_map_size(self.label_paths[index])
        image = load_rgb_of_size(self.paths[index], size)
        if image.size != size:
            raise self._other_size(index, size, image.size)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    def check_size(self, index: int) -> None:
        """Raise BrokenSample as ``image`` would for a label map of another size; only headers are decoded."""
        size = label_map_size(self.label_paths[index])
        with opened_image(self.paths[index]) as image:
            width, height = image.size
            turned = (height, width) if orientation(image) in SIDEWAYS else (width, height)
        if size not in (turned, (width, height)):
            raise self._other_size(index, size, turned)

    def _other_size(self, index: int, size: tuple[int, int], own: tuple[int, int]) -> BrokenSample:
        path = self.label_paths[index]
        return BrokenSample(
            str(path),
            f"{path} has {size[0]}x{size[1]} pixels, and its image {self.paths[index]} has {own[0]}x{own[1]}: replace "
            "one of them.",
            "label map of another size",
        )

    def labels(self, index: int) -> Tensor:
        """Return the labels of image ``index``, int64 (H, W); the image itself is not read.

        Raises:
            BrokenSample: the label map cannot be read, is not a label map, or has a value that stands for no class.
        """
        path = self.label_paths[index]
        numbers = read_label_map(path, self._legend.colours)
        labels = labels_of(numbers, self.table, path, self._legend)
        self.coverage.note(index, numbers)
        return torch.from_numpy(labels)

    @property
    def place(self) -> str:
        """Where the label maps are, in words."""
        return f"{self.folders.labels} ({self.part})" if self.part else str(self.folders.labels)

    @property
    def set_name(self) -> str:
        """The name of the set, as found in the folder."""
        return self.part or self.folders.set_name

    def suppose(self, seen: Seen) -> None:
        """Add a notice about classes without a pixel in the label maps that were read before a run."""
        self._provisional = about_absent(self.place, self.classes, self.table, seen)
        self.notices += self._provisional

    def conclude(self, processes: Processes | None = None) -> None:
        """Replace that notice, once at least half of the label maps were read. All processes must call."""
        if self._concluded:
            return
        seen = self.coverage.seen(processes)
        if 2 * seen.read >= seen.total:
            self._concluded = True
            before = [notice for notice in self.notices if notice not in self._provisional]
            self.notices = [*before, *about_absent(self.place, self.classes, self.table, seen)]
