"""A folder of classes as a dataset: everything that can be wrong with it is said before the first step.

The layout is torchvision's: ``DIR/train/<class>/*`` and ``DIR/val/<class>/*``, the same classes in both.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from torchvision.datasets import ImageFolder

from foveal.errors import FovealError


def open_split(root: Path, split: str, transform: Callable | None = None) -> ImageFolder:
    """The images of ``root/split``; item i is ``(transform(image), class index)``.

    Raises:
        FovealError: the folder is missing, or holds no classes, or one of them holds no image.
    """
    folder = _existing_split(root, split)
    if not any(entry.is_dir() for entry in folder.iterdir()):
        raise FovealError(f"{folder} has no class folders: put the images of each class into {folder}/<class>/.")
    images = ImageFolder(str(folder), transform=transform, loader=load_rgb, allow_empty=True)
    counts = Counter(images.targets)
    empty = [name for index, name in enumerate(images.classes) if not counts[index]]
    if empty:
        raise FovealError(f"The class folder {folder / empty[0]} holds no image: put images into it or remove it.")
    return images


def open_train_and_val(root: Path) -> tuple[ImageFolder, ImageFolder]:
    """Both splits, which must know the same classes.

    Raises:
        FovealError: as open_split, or the classes differ, or there is only one.
    """
    _existing_split(root, "val")
    train, val = open_split(root, "train"), open_split(root, "val")
    check_classes(val.classes, train.classes, f"{root / 'val'}", f"{root / 'train'}")
    if len(train.classes) == 1:
        raise FovealError(
            f"{root / 'train'} has one class alone, {train.classes[0]!r}, and so nothing to tell apart: add the folder "
            "of another class."
        )
    return train, val


def check_classes(found: list[str], expected: list[str], where: str, expected_where: str) -> None:
    """Refuse two lists of class names that differ, naming one class that does."""
    extra, missing = sorted(set(found) - set(expected)), sorted(set(expected) - set(found))
    if extra:
        raise FovealError(
            f"{where} has a class {extra[0]!r} that {expected_where} does not know: both must have the same classes."
        )
    if missing:
        raise FovealError(
            f"{where} lacks the class {missing[0]!r} of {expected_where}: both must have the same classes."
        )


def load_rgb(path: str | Path) -> Image.Image:
    """An image file as RGB, whatever its mode was (grey, palette, with alpha).

    Raises:
        FovealError: the file is missing or is no image that can be read whole.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError as error:
        raise FovealError(f"There is no image at {path}: check the path.") from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise FovealError(f"{path} is not a readable image ({_reason(error)}): replace or remove the file.") from error


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "no known image format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next(iter(str(error).splitlines()), type(error).__name__)


def _existing_split(root: Path, split: str) -> Path:
    if not root.is_dir():
        raise FovealError(f"There is no folder {root}: pass --data with a folder that holds train/ and val/.")
    folder = root / split
    if not folder.is_dir():
        raise FovealError(f"{root} has no folder {split}/: lay the images out as {folder}/<class>/<image>.")
    return folder
