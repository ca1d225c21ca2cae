"""ONNX files by ONNX Runtime."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from foveal.errors import FovealError
from foveal.runtime.card import KEY, Card

_PROVIDERS = ["CPUExecutionProvider"]
_SILENT = 4  # a log level of ONNX Runtime: fatal errors only, since errors are raised
_LOCATION = re.compile(rb"\x0a\x08location\x12([\x01-\x7f])", re.DOTALL)  # an entry of protobuf, up to its length


class OnnxRuntime:
    """An ONNX file, opened on the CPU; see ``foveal.runtime.session.Runtime``."""

    def __init__(self, path: Path, threads: int | None, precision: str | None) -> None:
        self._path = path
        self._session = _session(path, threads)
        text = self._session.get_modelmeta().custom_metadata_map.get(KEY)
        if text is None:
            raise FovealError(f"{path} was not written by foveal export: export the network with it.")
        self.card = Card.of(text, path)
        if precision not in (None, self.card.precision):
            raise FovealError(
                f"ONNX Runtime computes {path} as it is, in {self.card.precision}: leave the precision out, or export "
                "the network for OpenVINO, where it can be chosen."
            )
        self.inputs = {
            one.name: tuple(axis if isinstance(axis, int) else None for axis in one.shape)
            for one in self._session.get_inputs()
        }
        self.outputs = tuple(one.name for one in self._session.get_outputs())

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        names = list(self.card.outputs)
        try:
            found = self._session.run(names, {self.card.input.name: images})
        except _errors() as error:
            raise FovealError(
                f"ONNX Runtime cannot run {self._path} on images {images.shape}: {_short(error)}."
            ) from error
        return dict(zip(names, found, strict=True))


def _session(path: Path, threads: int | None) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError as missing:
        raise FovealError(
            f'{path} is run by ONNX Runtime: install it with `pip install "foveal[export]"`.'
        ) from missing
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=_PROVIDERS)
    except _errors() as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> FovealError:
    """Return a sentence about a file that ONNX Runtime cannot open."""
    absent = [name for name in _data_files(path) if not (path.parent / name).is_file()]
    if absent:
        return FovealError(f"{path} keeps its weights in {absent[0]}, which is not beside it: copy both files.")
    if type(error).__name__ == "NotImplemented":
        return FovealError(f"ONNX Runtime cannot compute {path} on this CPU ({_short(error)}): export it as fp32.")
    return FovealError(f"{path} is damaged or not an ONNX file: copy it again, or export the network again.")


def _data_files(path: Path) -> list[str]:
    """Return the files with weights that an ONNX file names, which are relative to it."""
    content, names = path.read_bytes(), dict[str, None]()
    for match in _LOCATION.finditer(content):
        names[content[match.end() : match.end() + match[1][0]].decode(errors="replace")] = None
    return list(names)


def _errors() -> tuple[type[Exception], ...]:
    """Return the exceptions of ONNX Runtime, which have no common base class."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented")
    return (RuntimeError, *(getattr(state, name) for name in (*names, "RuntimeException")))


def _short(error: Exception) -> str:
    """Return the last part of an error of ONNX Runtime, in one line."""
    return " ".join(str(error).split()).rpartition(" : ")[2].rstrip(".")
