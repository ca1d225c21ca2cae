"""Open exported files and run them on images, whatever the runtime; see ``open_session``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from foveal.errors import FovealError
from foveal.runtime.card import Card, Input

ONNX, OPENVINO = ".onnx", ".xml"
MOST_THREADS = 1024
Precision = Literal["fp32", "bf16"]
Outputs = dict[str, np.ndarray]
Shape = tuple[int | None, ...]


class Runtime(Protocol):
    """A file that a runtime has opened.

    Attributes:
        card: what the file says about itself.
        inputs: the shape of each by name; None for an axis of any length.
        outputs: names.
    """

    card: Card
    inputs: dict[str, Shape]
    outputs: tuple[str, ...]

    def __call__(self, images: np.ndarray) -> Outputs:
        """Run one batch; the file takes images of this shape. Raises FovealError if the runtime fails."""
        ...


@dataclass(frozen=True)
class Session:
    """An exported file, ready to run on images. Threads may share it.

    Attributes:
        path: the file.
        card: what the file says about itself.
    """

    path: Path
    card: Card
    _runtime: Runtime

    def run(self, images: np.ndarray) -> Outputs:
        """Return the outputs for any number of images, by name, as float32 with the images along the first axis.

        A file of a fixed batch is run several times; the last batch is filled up with copies of its last image.

        Args:
            images: (B, C, H, W) float32, as ``foveal.runtime.images.preprocess`` returns each.

        Raises:
            FovealError: shape or type is not what the file takes, or the runtime fails.
        """
        self._check(images)
        batches = [self._run(batch) for batch in _batches(images, self.card.input.batch)]
        return {name: np.concatenate([batch[name] for batch in batches])[: len(images)] for name in self.card.outputs}

    def check_any_size(self) -> None:
        """Raise FovealError if the file takes images of one size only."""
        if not self.card.input.any_size:
            height, width = self.card.input.size
            raise FovealError(
                f"{self.path} runs at {height}x{width} only: leave --size out, or export the network for any size."
            )

    def _run(self, images: np.ndarray) -> Outputs:
        found = self._runtime(np.ascontiguousarray(images))
        return {name: found[name].astype(np.float32, copy=False) for name in self.card.outputs}

    def _check(self, images: np.ndarray) -> None:
        given, (height, width) = self.card.input, self.card.input.size
        sides = "H, W" if given.any_size else f"{height}, {width}"
        wanted = f"(B, {given.channels}, {sides}) float32"
        if not isinstance(images, np.ndarray):
            raise FovealError(f"{self.path} takes a NumPy array {wanted}, not {type(images).__name__}.")
        fits = images.ndim == 4 and images.shape[1] == given.channels and 0 not in images.shape
        if not fits or images.dtype != np.float32 or not (given.any_size or images.shape[2:] == given.size):
            raise FovealError(f"{self.path} takes images {wanted}, at least one, not {images.shape} {images.dtype}.")
        if given.any_size and min(images.shape[2:]) < given.smallest:
            raise FovealError(
                f"{self.path} takes images of at least {given.smallest} pixels, not {images.shape[2]} x "
                f"{images.shape[3]}: enlarge them."
            )


def is_exported(path: str | Path) -> bool:
    """Return whether a file's name says that it is an exported one."""
    return Path(path).suffix.lower() in (ONNX, OPENVINO)


def open_session(path: str | Path, *, threads: int | None = None, precision: Precision | None = None) -> Session:
    """Open a file of ``foveal export`` on the CPU: FILE.onnx by ONNX Runtime, FILE.xml with FILE.bin by OpenVINO.

    Args:
        path: the file.
        threads: that compute; None for as many as the runtime chooses.
        precision: of the computation; None for that of the file. Only OpenVINO can compute in another.

    Raises:
        FovealError: the file is missing, damaged or not of ``foveal export``, or its runtime is not installed.
    """
    path = Path(path)
    if threads is not None and not (isinstance(threads, int) and 1 <= threads <= MOST_THREADS):
        raise FovealError(f"threads must be a whole number from 1 to {MOST_THREADS:,}, not {threads!r}.")
    if precision not in (None, "fp32", "bf16"):
        raise FovealError(f"precision must be fp32 or bf16, not {precision}.")
    if not is_exported(path):
        raise FovealError(f"{path} is not an exported file by its name: pass FILE{ONNX} or FILE{OPENVINO}.")
    if not path.is_file():
        raise FovealError(f"There is no file at {path}: check the path.")
    runtime = _opened(path, threads, precision)
    card = runtime.card
    if not _takes(runtime.inputs, card.input) or not {*card.outputs} <= {*runtime.outputs}:
        raise FovealError(f"{path} has other inputs and outputs than its description: export the network again.")
    return Session(path, card, runtime)


def _opened(path: Path, threads: int | None, precision: Precision | None) -> Runtime:
    if path.suffix.lower() == ONNX:
        from foveal.runtime.onnx_runtime import OnnxRuntime

        return OnnxRuntime(path, threads, precision)
    from foveal.runtime.openvino_runtime import OpenVinoRuntime

    return OpenVinoRuntime(path, threads, precision)


def _takes(inputs: dict[str, Shape], given: Input) -> bool:
    """Return whether all images that a card promises have a shape that the file takes.

    OpenVINO may crash on others: it does not check them if another axis is of any length.
    """
    wanted = (given.batch, given.channels, *((None, None) if given.any_size else given.size))
    shape = inputs.get(given.name, ())
    return len(shape) == len(wanted) and all(axis in (None, length) for axis, length in zip(shape, wanted))


def _batches(images: np.ndarray, size: int | None) -> Iterator[np.ndarray]:
    """Yield batches of ``size`` images, all at once for None."""
    size = len(images) if size is None else size
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        missing = size - len(batch)
        yield np.concatenate([batch, batch[-1:].repeat(missing, 0)]) if missing else batch
