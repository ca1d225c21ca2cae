"""OpenVINO's files, FILE.xml with FILE.bin, on the CPU."""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from foveal.errors import FovealError
from foveal.runtime.card import KEY, Card

_DEVICE = "CPU"
_HINTS = {"bf16": "bf16"}  # other files in float32: it holds what float16 does, and products of int8 stay so


class OpenVinoRuntime:
    """A file of OpenVINO, compiled for the CPU; see ``foveal.runtime.session.Runtime``."""

    def __init__(self, path: Path, threads: int | None, precision: str | None) -> None:
        self._path = path
        core, model = _read(path)
        if not model.has_rt_info([KEY]):
            raise FovealError(f"{path} was not written by foveal export: export the network with it.")
        self.card = Card.of(str(model.get_rt_info([KEY]).value), path)
        if precision == "bf16" and "BF16" not in core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES"):
            raise FovealError("OpenVINO has no fast bf16 on this processor: compute in fp32.")
        # By default OpenVINO computes files of float32 in bfloat16 if the processor can.
        properties: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _HINTS.get(precision or self.card.precision, "f32")}
        if threads is not None:
            properties["INFERENCE_NUM_THREADS"] = threads
        try:
            self._compiled = core.compile_model(model, _DEVICE, properties)
        except RuntimeError as error:
            raise FovealError(f"OpenVINO cannot compute {path} on this CPU: {_short(error)}.") from error
        self.inputs = {
            name: tuple(axis.get_length() if axis.is_static else None for axis in port.partial_shape)
            for port in self._compiled.inputs
            for name in port.names
        }
        self.outputs = tuple(name for port in self._compiled.outputs for name in port.names)
        self._request, self._turn = self._compiled.create_infer_request(), threading.Lock()

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        with self._turn:  # a request holds its inputs and outputs
            try:
                found = self._request.infer({self.card.input.name: images})
            except RuntimeError as error:
                raise FovealError(
                    f"OpenVINO cannot run {self._path} on images {images.shape}: {_short(error)}."
                ) from error
            return {name: np.array(found[self._compiled.output(name)]) for name in self.card.outputs}


def _read(path: Path) -> tuple[Any, Any]:
    try:
        import openvino  # noqa: F401
    except ModuleNotFoundError as missing:
        raise FovealError(f'{path} is run by OpenVINO: install it with `pip install "foveal[export]"`.') from missing
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise FovealError(f"{path} keeps its weights in {weights.name}, which is not beside it: copy both files.")
    only = core()
    try:
        return only, only.read_model(path, weights)
    except RuntimeError as error:
        raise FovealError(
            f"{path} or {weights.name} is damaged, or they do not belong together: copy both again, or export the "
            "network again."
        ) from error


@cache
def core() -> Any:
    """Return OpenVINO's core, the only one of the process.

    A core gives the thread that uses it first another stack for signals, and takes it back when it is freed. If cores
    are freed in another order than the reverse, the thread is left with a stack that is gone, and its next signal ends
    the process.
    """
    import openvino

    return openvino.Core()


def _short(error: Exception) -> str:
    """Return what an error of OpenVINO says last, in one line."""
    return next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__).rstrip(".")
