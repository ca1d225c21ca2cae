"""Open files of torch.export and AOTInductor as sessions, with the checks that they lack: an AOTInductor package of a
fixed shape accepts others, and returns wrong rows."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveal.errors import FovealError
from foveal.runtime.card import Card
from foveal.runtime.session import Session


class TorchRuntime:
    """A file of PyTorch, opened; see ``foveal.runtime.session.Runtime``."""

    def __init__(self, path: Path, card: Card) -> None:
        self.card, given = card, card.input
        self.inputs = {given.name: (given.batch, given.channels, *((None, None) if given.any_size else given.size))}
        self.outputs = card.outputs
        self._call = _call_of(path)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            returned = self._call(torch.from_numpy(images))
        outputs = (returned,) if isinstance(returned, torch.Tensor) else returned
        return {name: y.float().numpy() for name, y in zip(self.card.outputs, outputs, strict=True)}


def load(path: str | Path) -> Session:
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
        return Session(path, card, TorchRuntime(path, card))
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
