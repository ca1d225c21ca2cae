"""What every source of images gives: labelled images by number, whatever they lie in."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from PIL import Image
from torch.utils.data import Dataset

from foveal.tasks.image_files import load_rgb

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


class Images(Dataset, ABC):
    """Labelled images; item i is ``(transform(image), class index)``.

    Attributes:
        classes: their names; an image's class is an index into them.
        names: of each image, as a person finds it: a file, ``shard.tar/member``, ``dataset[17]``.
        targets: of each image the class index; empty where only reading the image tells it (shards elsewhere).
        transform: PIL image in RGB -> what the network gets; None for the image itself.
    """

    def __init__(
        self, classes: list[str], names: list[str], targets: list[int], transform: Callable | None = None
    ) -> None:
        self.classes, self.names, self.targets, self.transform = classes, names, targets, transform
        self._places: list[int] | None = None  # of the classes as the source numbers them; None where they are as given

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transformed(self.load(index)), self.targets[index]

    @property
    def samples(self) -> list[tuple[str, int]]:
        """(name, class index) of each image."""
        return list(zip(self.names, self.targets, strict=True))

    def sort_classes(self, classes: list[str]) -> None:
        """Number the classes as ``classes`` does, which are the same names; every target follows its class."""
        if classes == self.classes:
            return
        place = {name: number for number, name in enumerate(classes)}
        moved = [place[name] for name in self.classes]
        self._places = moved if self._places is None else [moved[old] for old in self._places]
        self.classes, self.targets = list(classes), [moved[target] for target in self.targets]

    def class_of(self, label: int) -> int:
        """The class index of what the source itself gives as a label."""
        return label if self._places is None else self._places[label]

    def transformed(self, image: Image.Image) -> Any:
        """The image as the network gets it."""
        return image if self.transform is None else self.transform(image)

    @abstractmethod
    def load(self, index: int) -> Image.Image:
        """Image ``index`` in RGB. Raises BrokenSample where it cannot be read."""


class FileImages(Images):
    """Images in files of their own; their names are the paths."""

    def load(self, index: int) -> Image.Image:
        return load_rgb(self.names[index])
