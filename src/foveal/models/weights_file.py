"""A file of network weights, opened once and handed on.

Nothing is unpickled beyond tensors, plain containers, and what trainers save beside them: numbers and arrays of NumPy,
paths, and namespaces of arguments. None of these runs code.
"""

from __future__ import annotations

import argparse
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .load_report import CheckpointError, Problem
from .unwrapping import has_backbone, peeled, unwrap

_METADATA = "card"


def _as_dict(factory: object = None) -> dict[Any, Any]:
    """Stand for ``defaultdict``, which PyTorch's reader does not fill; nothing asks it for names that it has not."""
    return {}


# What PyTorch's reader may create beside tensors and plain containers, by the names that files have for it. Arrays of
# Python objects are not among them: their dtype is missing.
_ARRAY, _NUMBER = np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]
_HARMLESS: list[Any] = [
    *((_as_dict, "collections.defaultdict"), dict, list, int, float),
    argparse.Namespace,  # trainers in timm's tradition keep their arguments in the file
    *(np.dtype, np.ndarray, *(type(np.dtype(code)) for code in "?bhilqBHILQefdgFDGUS")),
    *((_ARRAY, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),  # NumPy 1 and 2
    *((_NUMBER, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((PurePosixPath, f"pathlib.{place}") for place in ("PosixPath", "_local.PosixPath", "PurePosixPath")),
    *((PureWindowsPath, f"pathlib.{place}") for place in ("WindowsPath", "_local.WindowsPath", "PureWindowsPath")),
]

# What PyTorch's and safetensors' readers raise on files that were cut short or overwritten.
_DAMAGED = (
    SafetensorError, RuntimeError, OSError, EOFError, ValueError, TypeError, AttributeError, LookupError, struct.error,
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class WeightsFile:
    """The weights in a file, without wrappers, and the file's metadata.

    Every function of this library that reads weights takes a path or an opened ``WeightsFile``; hand on the latter to
    read a file once.

    Attributes:
        path: the file.
        state: tensors by name, on the CPU: the averaged weights if the file has them.
        metadata: what ``foveal train`` saved about model, classes and preprocessing; None in other files.
        wrapper: keys that the state dict was found under, outermost first; empty for a bare state dict.
        prefixes: prefixes that were removed from every name.
        is_training_checkpoint: whether the file also holds an optimiser's state.
        averaged: whether ``state`` holds averaged weights (an EMA).
        beside: keys of the file's other networks, which were not taken.
    """

    path: Path
    state: dict[str, Tensor]
    metadata: dict[str, Any] | None = None
    wrapper: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    is_training_checkpoint: bool = False
    averaged: bool = False
    beside: tuple[str, ...] = ()

    @classmethod
    def open(cls, source: WeightsSource) -> WeightsFile:
        """Read a ``.pth``, ``.pt``, ``.tar`` or ``.safetensors`` file; return an opened one as it is.

        Raises:
            CheckpointError: the file is missing, damaged or without weights, or a weight is NaN.
        """
        if isinstance(source, WeightsFile):
            return source
        path = Path(source)
        content = read_content(path)
        with errors_name(path):
            found = unwrap(content)
            _check_values(found.state)
        return cls(
            path,
            found.state,
            _metadata_in(content),
            found.wrapper,
            found.prefixes,
            is_training_checkpoint="optimizer" in content,
            averaged=found.averaged,
            beside=found.beside,
        )

    @property
    def has_head(self) -> bool:
        """Whether the file holds a whole detector or segmenter: a backbone, and something else."""
        with errors_name(self.path):
            in_backbone = [name.startswith("backbone.") for name in peeled(self.state, has_backbone)]
        return any(in_backbone) and not all(in_backbone)

    def __repr__(self) -> str:
        return f"WeightsFile({str(self.path)!r}, {len(self.state)} tensors)"


WeightsSource: TypeAlias = str | Path | WeightsFile


def _check_values(state: Mapping[str, Tensor]) -> None:
    for name, tensor in state.items():
        if tensor.is_floating_point() and tensor.isnan().any():
            raise CheckpointError(Problem.NAN, name)


def _metadata_in(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what ``foveal train`` saved about the network; None if the key is another program's."""
    found = content.get(_METADATA)
    return found if isinstance(found, dict) and "model" in found else None


@contextmanager
def errors_name(path: Path) -> Iterator[None]:
    """Add ``path`` to a CheckpointError that is raised inside."""
    try:
        yield
    except CheckpointError as error:
        error.path = path
        raise


def read_content(path: str | Path) -> dict[str, Any]:
    """Return the whole content of a checkpoint, on the CPU; never run code from the file.

    Raises:
        CheckpointError: the file is missing, damaged, or not a checkpoint.
    """
    path = Path(path)
    with errors_name(path):
        content = _load(path)
        if not isinstance(content, Mapping):
            raise CheckpointError(Problem.NOT_A_STATE_DICT, f"a {type(content).__name__}")
        return dict(content)


def _load(path: Path) -> object:
    if path.is_dir():
        raise CheckpointError(Problem.FOLDER)
    if not path.is_file():
        raise CheckpointError(Problem.NO_FILE)
    if path.stat().st_size == 0:
        raise CheckpointError(Problem.EMPTY)
    exported = _exported(path)
    if exported is not None:
        raise CheckpointError(exported)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        known = torch.serialization.get_safe_globals()  # leaving the block would take these from who added them
        with torch.serialization.safe_globals([harmless for harmless in _HARMLESS if harmless not in known]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # PyTorch refuses objects and damage with the same exception; a pickle that is whole holds objects.
        problem = Problem.PYTHON_OBJECTS if _is_whole(path) else Problem.NOT_A_CHECKPOINT
        raise CheckpointError(problem) from None
    except PermissionError:
        raise CheckpointError(Problem.NOT_READABLE) from None
    except _DAMAGED as error:
        raise CheckpointError(Problem.DAMAGED) from error


def _exported(path: Path) -> Problem | None:
    """Return the problem with a file that ``foveal export`` writes, by its name; None if it is another."""
    ending = path.suffix.lower()
    if ending in (".onnx", ".xml"):
        return Problem.EXPORTED
    if ending == ".bin" and path.with_suffix(".xml").is_file():
        return Problem.EXPORTED_WEIGHTS
    return Problem.EXPORTED_PROGRAM if ending == ".pt2" else None


def _is_whole(path: Path) -> bool:
    """Whether the pickles of a PyTorch checkpoint, zipped or in the old format, can be disassembled to their end."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
                with archive.open(name) as file:
                    _disassemble(file)
            return True
        with path.open("rb") as file:
            if torch.serialization.MAGIC_NUMBER not in _disassemble(file):
                return False
            for _ in ("protocol", "system", "content"):
                _disassemble(file)
        return True
    except (OSError, EOFError, LookupError, StopIteration, ValueError, struct.error, zipfile.BadZipFile):
        return False


def _disassemble(file: IO[bytes]) -> list[Any]:
    """Return the arguments of one pickle's opcodes, without running any."""
    return [argument for _, argument, _ in pickletools.genops(file)]
