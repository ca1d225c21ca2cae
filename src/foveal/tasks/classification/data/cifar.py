"""CIFAR-100 (Krizhevsky 2009) as its authors and torchvision lay it on disk, turned into folders of classes.

The files are Python pickles, which may run code when they are read; here they may make arrays and nothing else.
"""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from foveal.errors import FovealError
from foveal.files import atomic_folder, cache_folder

FOLDER = "cifar-100-python"
SPLITS = {"train": "train", "test": "val"}  # file -> split
SIDE = 32
_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("_codecs", "encode"),
}


def is_cifar100(data: Path) -> bool:
    """Whether ``data`` is CIFAR-100's own folder, ``cifar-100-python``, or holds it as torchvision's root does."""
    return _place(data) is not None


def cifar100_folder(data: Path) -> Path:
    """CIFAR-100 as ``train/<class>/*.png`` and ``val/<class>/*.png``, its test images being val.

    The images are written once, about 60,000 small files, into the user's cache (``$FOVEAL_CACHE``), under a name that
    tells one content of ``data`` from another.

    Raises:
        FovealError: a file is missing or is not what CIFAR-100 is made of, or the folder cannot be written.
    """
    place = _place(data)
    if place is None:
        raise FovealError(f"{data} holds no {FOLDER}: pass --data with the folder that CIFAR-100 was unpacked into.")
    contents = {name: _read(place / name) for name in (*SPLITS, "meta")}
    digest = hashlib.blake2b(b"".join(hashlib.blake2b(raw).digest() for raw in contents.values()), digest_size=6)
    folder = cache_folder() / f"cifar100-{digest.hexdigest()}"
    if not folder.exists():
        names = _field(_unpickle(contents["meta"], place / "meta"), "fine_label_names", place / "meta")
        splits = {split: _images(contents[name], place / name, len(names)) for name, split in SPLITS.items()}
        with atomic_folder(folder, "make room, or set FOVEAL_CACHE to another folder") as part:
            _write_files(part, names, splits)
    return folder


def _place(data: Path) -> Path | None:
    for folder in (data, data / FOLDER):
        if all((folder / name).is_file() for name in (*SPLITS, "meta")):
            return folder
    return None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FovealError(f"{path} cannot be read ({error.strerror}): unpack CIFAR-100 again.") from error


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def _unpickle(raw: bytes, path: Path) -> dict[str, Any]:
    try:
        content = _ArraysOnly(io.BytesIO(raw), encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise FovealError(f"{path} is not a file of CIFAR-100 ({error}): unpack CIFAR-100 again.") from error
    return content if isinstance(content, dict) else {}


def _field(content: dict[str, Any], name: str, path: Path) -> Any:
    if name not in content:
        raise FovealError(f"{path} is not a file of CIFAR-100 (it has no {name}): unpack CIFAR-100 again.")
    return content[name]


def _images(raw: bytes, path: Path, classes: int) -> tuple[np.ndarray, list[int]]:
    """(N, 32, 32, 3) bytes and N labels; on disk an image is its red plane, then green, then blue."""
    content = _unpickle(raw, path)
    pixels, labels = _field(content, "data", path), _field(content, "fine_labels", path)
    fits = isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.shape == (len(labels), 3 * SIDE**2)
    if not fits or not all(0 <= label < classes for label in labels):
        raise FovealError(f"{path} is not a file of CIFAR-100 (images or labels are damaged): unpack CIFAR-100 again.")
    return pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1), labels


def _write_files(folder: Path, names: list[str], splits: dict[str, tuple[np.ndarray, list[int]]]) -> None:
    for split, (pixels, labels) in splits.items():
        for name in names:
            (folder / split / name).mkdir(parents=True)
        for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            Image.fromarray(np.ascontiguousarray(image)).save(folder / split / names[label] / f"{number:05d}.png")
