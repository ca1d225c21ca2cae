"""CIFAR-100 (Krizhevsky 2009) in its original format, converted to class folders.

The files are Python pickles, which can run code when they are loaded; here only arrays are allowed.
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
    """Return whether ``data`` is the folder ``cifar-100-python``, or contains it like torchvision's root."""
    return _find(data) is not None


def cifar100_folder(data: Path) -> Path:
    """Return a folder with CIFAR-100 as ``train/<class>/*.png`` and ``val/<class>/*.png``, from its test images.

    About 60,000 small files are written once to the user's cache (``$FOVEAL_CACHE``), in a folder named after a digest
    of ``data``'s content.

    Raises:
        FovealError: a file is missing or not a file of CIFAR-100, or the folder cannot be written.
    """
    root = _find(data)
    if root is None:
        raise FovealError(
            f"{data} has no folder {FOLDER}: pass --data with the folder that CIFAR-100 was unpacked into."
        )
    contents = {name: _read(root / name) for name in (*SPLITS, "meta")}
    digest = hashlib.blake2b(b"".join(hashlib.blake2b(raw).digest() for raw in contents.values()), digest_size=6)
    folder = cache_folder() / f"cifar100-{digest.hexdigest()}"
    if not folder.exists():
        names = _field(_unpickle(contents["meta"], root / "meta"), "fine_label_names", root / "meta")
        splits = {split: _images(contents[name], root / name, len(names)) for name, split in SPLITS.items()}
        with atomic_folder(folder, "make room, or set FOVEAL_CACHE to another folder") as part:
            _write_files(part, names, splits)
    return folder


def _find(data: Path) -> Path | None:
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
    """Return images (N, 32, 32, 3) uint8 and N labels; on disk, an image is its red, green and blue plane in turn."""
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
