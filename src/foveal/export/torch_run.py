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
            FovealError: the file does not take images of this shape.
        """
        given = self.card.input
        wanted = (given.batch or len(images), given.channels, *(images.shape[2:] if given.any_size else given.size))
        if images.shape != wanted:
            raise FovealError(f"{self.path} takes images of shape {wanted}, not {images.shape}.")
        with torch.no_grad():
            returned = self._call(torch.from_numpy(images))
        outputs = (returned,) if isinstance(returned, torch.Tensor) else returned
        return {name: y.float().numpy() for name, y in zip(self.card.outputs, outputs, strict=True)}


def load(path: Path) -> TorchFile:
    """Open a file FILE.pt2 with its card FILE.json beside it.

    Raises:
        FovealError: the card is missing or damaged, or the file cannot be read.
    """
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
