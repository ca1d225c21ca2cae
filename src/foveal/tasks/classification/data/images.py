"""What every source of images gives: labelled images by number, whatever they lie in."""

import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from torch.utils.data import Dataset

from foveal.errors import FovealError
from foveal.training.samples import BrokenSample

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


def load_rgb(path: str | Path) -> Image.Image:
    """An image file as RGB, whatever its mode was (grey, palette, with alpha).

    Raises:
        FovealError: the file is missing or is no image that can be read whole.
    """
    try:
        with open(path, "rb") as file:
            return _decode(file, str(path))
    except FileNotFoundError as error:
        raise BrokenSample(str(path), f"There is no image at {path}: check the path.") from error
    except OSError as error:
        raise _broken(str(path), error) from error


def decode_rgb(content: bytes, name: str) -> Image.Image:
    """The bytes of an image file as RGB; ``name`` is what it is called where it cannot be read.

    Raises:
        BrokenSample: they are no image that can be read whole.
    """
    return _decode(io.BytesIO(content), name)


def _decode(file: Any, name: str) -> Image.Image:
    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise _broken(name, error) from error


def _broken(name: str, error: Exception) -> BrokenSample:
    return BrokenSample(name, f"{name} is not a readable image ({_reason(error)}): replace or remove the file.")


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "no known image format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next(iter(str(error).splitlines()), type(error).__name__)


def read_text(path: Path) -> str:
    """A text file beside the images. Raises FovealError where it cannot be read."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise FovealError(f"{path} cannot be read ({_reason(error)}): replace the file.") from error
