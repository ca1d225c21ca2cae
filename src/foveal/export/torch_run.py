"""Run files of torch.export and AOTInductor with the checks that they lack: an AOTInductor package of a fixed shape
accepts others, and returns wrong rows."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveal.errors import FovealError
from foveal.runtime.card import Card


@dataclass(frozen=True)
class TorchFile:
    """A file of ``foveal export --format torch`` or ``aoti``."""

    path: Path
    card: Card
    _call: Callable[..., Any]

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs for images (B, C, H, W) float32, by name, as float32.

        Raises:
            FovealError: the file does not take images of this shape or type.
        """
        self._check(images)
        with torch.no_grad():
            returned = self._call(torch.from_numpy(images))
        outputs = (returned,) if isinstance(returned, torch.Tensor) else returned
        return {name: y.float().numpy() for name, y in zip(self.card.outputs, outputs, strict=True)}

    def _check(self, images: np.ndarray) -> None:
        given = self.card.input
        sides: tuple[int | str, ...] = ("H", "W") if given.any_size else given.size
        wanted = f"({', '.join(map(str, (given.batch or 'B', given.channels, *sides)))}) float32"
        if not isinstance(images, np.ndarray):
            raise FovealError(f"{self.path} takes a NumPy array {wanted}, not {type(images).__name__}.")
        shape = (given.batch or len(images), given.channels, *(images.shape[2:] if given.any_size else given.size))
        if images.ndim != 4 or images.shape != shape or images.dtype != np.float32 or 0 in shape:
            raise FovealError(f"{self.path} takes images {wanted}, not {images.shape} {images.dtype}.")
        if given.any_size and min(images.shape[2:]) < given.smallest:
            raise FovealError(
                f"{self.path} takes images of at least {given.smallest} pixels, not {images.shape[2]} x "
                f"{images.shape[3]}: enlarge them."
            )


def load(path: str | Path) -> TorchFile:
    """Open a file FILE.pt2 of ``foveal export`` with its card FILE.json beside it.

    Raises:
        FovealError: the card is missing or damaged, or the file cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FovealError(f"There is no file at {path}: check the path.")
    beside = path.with_suffix(".json")
    if not beside.is_file():
        raise FovealError(f"{beside} is missing, which describes {path.name}: keep both files together.")
    card = Card.of(beside.read_text(encoding="utf-8"), beside)
    try:
        return TorchFile(path, card, _call_of(path))
    except (zipfile.BadZipFile, OSError, RuntimeError, ValueError, KeyError) as error:
        raise FovealError(f"{path} cannot be read: export the network again.") from error


def _call_of(path: Path) -> Callable[..., Any]:
    with zipfile.ZipFile(path) as archive:
        compiled = any("aotinductor" in name for name in archive.namelist())
    if compiled:
        from torch._inductor import aoti_load_package

        package: Callable[..., Any] = aoti_load_package(str(path))
        return package
    program: Callable[..., Any] = torch.export.load(path).module()
    return program
