"""Base class of labelled images, and those in separate files."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from PIL import Image
from torch.utils.data import Dataset

from foveal.image_files import load_rgb
from foveal.tasks.held_out import HeldOut

IMAGENET_CLASSES = 1000


class Images(Dataset, ABC):
    """Labelled images; item i is ``(transform(image), class index)``.

    Attributes:
        classes: class names, indexed by class.
        names: human-readable name of each image: a file, ``shard.tar/member``, ``dataset[17]``.
        targets: class index of each image; empty if it is only known once the image is read (remote shards).
        transform: function from a PIL image in RGB to the network's input; None returns the image itself.
        upright: whether images are turned as their EXIF orientation says. Those of ImageNet are not: its published
            accuracies are of the images as stored.
        notices: sentences about what was found beside the images and left out.
        set_name: the name of the split that was read, as results give it.
        held_out: how these images were drawn for validation, if they were.
    """

    multi_label: ClassVar[bool] = False
    """Whether an image may have any number of classes; see ``label_tables``."""

    def __init__(
        self, classes: list[str], names: list[str], targets: list[int], transform: Callable | None = None
    ) -> None:
        self.classes, self.names, self.targets, self.transform = classes, names, targets, transform
        self.upright = not is_imagenet_classes(classes)
        self.notices: list[str] = []
        self.set_name = ""
        self.held_out: HeldOut | None = None
        self._places: list[int] | None = None  # new index of each class of the source; None if unchanged

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transformed(self.load(index)), self.targets[index]

    @property
    def samples(self) -> list[tuple[str, int]]:
        """Pairs of (name, class index)."""
        return list(zip(self.names, self.targets, strict=True))

    def present(self) -> set[int]:
        """Return the classes that have an image; nothing if that is only known once the images are read."""
        return set(self.targets)

    def answers(self) -> Sequence[Any]:
        """Return what is right for each image, in plain types."""
        return self.targets

    def sort_classes(self, classes: list[str]) -> None:
        """Number the classes as in ``classes``, and update all targets. Names that it lacks must have no image."""
        if classes == self.classes:
            return
        place = {name: number for number, name in enumerate(classes)}
        moved = [place.get(name, -1) for name in self.classes]
        self._places = moved if self._places is None else [moved[old] for old in self._places]
        self.classes, self.targets = list(classes), [moved[target] for target in self.targets]

    def class_of(self, label: int) -> int:
        """Return the class index of a label as stored in the source."""
        return label if self._places is None else self._places[label]

    def transformed(self, image: Image.Image) -> Any:
        """Apply the transform."""
        return image if self.transform is None else self.transform(image)

    @abstractmethod
    def load(self, index: int) -> Image.Image:
        """Return image ``index`` in RGB. Raises BrokenSample if it cannot be read."""


class FileImages(Images):
    """Images in separate files; their names are the paths."""

    def load(self, index: int) -> Image.Image:
        return load_rgb(self.names[index], self.upright)


def is_imagenet_classes(classes: list[str]) -> bool:
    """Return whether classes are named as those of ImageNet or a part of it: by WNIDs, by its 1000 numbers (as in
    ImageNetV2), or by its 1000 names, the first of which is the tench."""
    if all(re.fullmatch(r"n\d{8}", name) for name in classes):
        return bool(classes)
    if len(classes) != IMAGENET_CLASSES:
        return False
    return classes[0].startswith("tench") or set(classes) == {str(number) for number in range(IMAGENET_CLASSES)}
