"""The handwritten digits of scikit-learn as class folders: real images that ship with an installed package.

1,797 digits of 8x8 pixels with 17 grey levels, written by 43 people (E. Alpaydin and C. Kaynak, UCI Machine Learning
Repository, 1998); scikit-learn ships the test part of the set.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from foveal.errors import FovealError
from foveal.files import atomic_folder, cache_folder

COUNT = 1797
LEVELS = 16


def default_digits_folder() -> Path:
    """Return ``digits`` in the cache folder; see ``cache_folder``."""
    return cache_folder() / "digits"


def write_digits(folder: Path, *, val_fraction: float = 0.2, seed: int = 0) -> Path:
    """Write ``folder/train/<0..9>/*.png`` and ``folder/val/<0..9>/*.png`` and return ``folder``.

    The files are 8x8 grey PNGs; ``val_fraction`` of each class goes to val, depending on ``seed``. A complete folder is
    left unchanged. The folder is written atomically: it is filled under another name and renamed.

    Raises:
        FovealError: scikit-learn is missing, the folder cannot be written, or it has other content.
    """
    if folder.exists():
        _check_complete(folder)
        return folder
    images, labels = _load()
    in_val = _stratified(labels, val_fraction, seed)
    with atomic_folder(folder, "choose another folder") as part:
        _write_files(part, images, labels, in_val)
    return folder


def _check_complete(folder: Path) -> None:
    found = sum(1 for _ in folder.glob("*/*/*.png"))
    if found != COUNT:
        raise FovealError(f"{folder} holds {found} of the {COUNT} digits: remove it, or choose another folder.")


def _load() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise FovealError(
            "The digits come with scikit-learn: install it with `pip install 'foveal[train]'`."
        ) from error
    digits = load_digits()
    return digits.images, digits.target


def _stratified(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Return a mask over the images that selects ``fraction`` of each class, rounded."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        mask[rng.permutation(members)[: round(len(members) * fraction)]] = True
    return mask


def _write_files(folder: Path, images: np.ndarray, labels: np.ndarray, in_val: np.ndarray) -> None:
    for number, (image, label, val) in enumerate(zip(images, labels, in_val, strict=True)):
        place = folder / ("val" if val else "train") / str(label)
        place.mkdir(parents=True, exist_ok=True)
        grey = np.round(image * (255 / LEVELS)).astype(np.uint8)
        Image.fromarray(grey).save(place / f"{number:04d}.png")
