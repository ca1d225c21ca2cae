"""Export a network: fold, trace, write, check, and only then give the file its name."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.export import ExportedProgram

from foveal.errors import FovealError
from foveal.files import make_folder, write_errors
from foveal.runtime.card import Card

from .check import BUDGETS, Run, compare, images_for
from .int8 import Batches, Calibration, Int8Report, write_int8
from .program import BATCH, SIZE, example, trace
from .quiet import quietly
from .subject import Subject

INT8 = "int8"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Format:
    """A format of files.

    Attributes:
        ending: of the file.
        beside: endings of the files beside it.
        precisions: that the format has.
        computed: precisions whose files are written from the network in fp32.
        whole: whether attention is translated by the exporter of the format.
        packages: what must be installed.
    """

    title: str
    ending: str
    beside: tuple[str, ...]
    precisions: tuple[str, ...]
    computed: tuple[str, ...] = ()
    whole: bool = False
    packages: tuple[str, ...] = ()


FORMATS = {
    "onnx": Format(
        "ONNX", ".onnx", (".onnx.data",), ("fp32", "fp16", "int8"), computed=("int8",), whole=True,
        packages=("onnx", "onnxscript", "onnxruntime"),
    ),
    "openvino": Format(
        "OpenVINO", ".xml", (".bin",), ("fp32", "bf16", "fp16", "int8"), computed=("bf16", "fp16", "int8"),
        whole=True, packages=("onnx", "onnxscript", "openvino"),
    ),
    "torch": Format("torch.export", ".pt2", (".json",), ("fp32", "bf16", "fp16")),
    "aoti": Format("AOTInductor", ".pt2", (".json",), ("fp32", "bf16")),
}  # fmt: skip


@dataclass(frozen=True)
class Exported:
    """An exported file.

    Attributes:
        path: the file.
        card: what it says about itself.
        operators: number of nodes or operations.
        error: largest relative difference from the network in fp32, over all images that were compared.
        seconds: that the export took.
        int8: of a file in int8, what was put into it and what it changed.
    """

    path: Path
    card: Card
    operators: int
    error: float
    seconds: float
    int8: Int8Report | None = None


def export(
    subject: Subject,
    path: Path,
    format: str,
    *,
    precision: str = "fp32",
    dynamic: Collection[str] = (),
    batch: int = 1,
    calibration: Calibration | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> Exported:
    """Write a network to ``path`` in a format, and check it against the network before the file gets its name.

    Args:
        subject: the network.
        path: the file, with the format's ending.
        format: a name in ``FORMATS``.
        precision: "fp32", "bf16", "fp16" or "int8".
        dynamic: of "batch" and "size", what the file leaves free.
        batch: images per call, unless the batch is dynamic.
        calibration: the images for int8.
        on_step: called with what is done next, in words.

    Raises:
        FovealError: the format lacks the precision or an operator, the result differs from the network, or it cannot
            be written. Nothing is left behind then.
    """
    start, free = time.perf_counter(), frozenset(dynamic)
    kind = FORMATS[format]
    check_request(format, precision, free, batch)
    if (precision == INT8) != (calibration is not None):
        raise FovealError("int8 needs images to calibrate on, and other precisions take none.")
    if SIZE in free and min(subject.size) < subject.smallest:
        raise FovealError(
            f"Files of free size take images of {subject.smallest} pixels or more, not {min(subject.size)}: pass a "
            "larger --size, or leave size out of --dynamic."
        )
    _check_target(path)
    card = subject.card(precision, None if BATCH in free else batch, SIZE in free)
    photographs = None if calibration is None else calibration.load(card)
    dtype = torch.float32 if precision in kind.computed else DTYPES[precision]
    on_step("folding and tracing")
    images = example(max(batch, 2) if BATCH in free else batch, subject.channels, subject.size)
    with quietly():
        program = trace(subject.folded(dtype), images, free, whole=kind.whole, smallest=subject.smallest)
    make_folder(path.parent)
    with (
        write_errors(path),
        tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".part", dir=path.parent) as folder,
    ):
        staged = Path(folder, path.name)
        on_step(f"writing {kind.title}")
        report = None
        with quietly():
            if photographs is None:
                operators = _write(program, card, staged, format)
            else:
                operators, report = _write_int8(subject, program, card, staged, format, photographs, on_step)
        on_step("comparing with the network")
        with quietly():
            error = _checked(subject, _runner(staged, card, format), card, free, batch)
        _move(Path(folder), path)
    return Exported(path, card, operators, error, time.perf_counter() - start, report)


def _move(folder: Path, path: Path) -> None:
    """Move a finished file and those beside it to their names, the file itself last."""
    items = sorted(folder.iterdir(), key=lambda item: item.name == path.name)
    for item in items:
        _check_target(path.parent / item.name)
    for item in items:
        item.replace(path.parent / item.name)


def _check_target(path: Path) -> None:
    if path.is_dir():
        raise FovealError(f"{path} is a folder, and a file of this name is to be written: pass another --out.")


def check_request(format: str, precision: str, dynamic: frozenset[str], batch: int) -> None:
    """Raise FovealError for what a format does not have."""
    kind = FORMATS[format]
    if precision not in kind.precisions:
        raise FovealError(f"{kind.title} files have no {precision} here: choose one of {', '.join(kind.precisions)}.")
    if dynamic - {BATCH, SIZE}:
        raise FovealError(f"--dynamic takes batch and size, not {', '.join(sorted(dynamic - {BATCH, SIZE}))}.")
    if batch < 1:
        raise FovealError(f"--batch must be at least 1, not {batch}.")
    needed = (*kind.packages, "onnxruntime") if precision == INT8 else kind.packages  # which calibrates
    missing = [name for name in dict.fromkeys(needed) if not _is_installed(name)]
    if missing:
        raise FovealError(f'{kind.title} files need {", ".join(missing)}: pip install "foveal[export]".')
    if format == "aoti" and shutil.which("g++") is None and shutil.which("clang++") is None:
        raise FovealError("AOTInductor compiles C++, and there is no compiler: install g++.")


def _is_installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def _write(program: ExportedProgram, card: Card, path: Path, format: str) -> int:
    if format == "onnx":
        from .onnx_file import write_onnx

        return write_onnx(program, card, path)
    if format == "openvino":
        from .openvino_file import write_openvino

        return write_openvino(program, card, path)
    from . import torch_files

    return (torch_files.write_torch if format == "torch" else torch_files.write_aoti)(program, card, path)


def _write_int8(
    subject: Subject,
    program: ExportedProgram,
    card: Card,
    path: Path,
    format: str,
    images: tuple[Batches, Batches],
    on_step: Callable[[str], None],
) -> tuple[int, Int8Report]:
    from .onnx_file import write_onnx

    with tempfile.TemporaryDirectory() as folder:
        exact = Path(folder, "fp32.onnx")
        write_onnx(program, card, exact)
        on_step("calibrating and choosing what runs in int8")
        return write_int8(subject.net, exact, card, path, images, openvino=format == "openvino")


def _runner(path: Path, card: Card, format: str) -> Run:
    """Return what runs the file that was just written, as its users will."""
    if format in ("torch", "aoti"):
        from .torch_run import load

        return load(path).run
    from foveal.runtime.session import open_session

    return open_session(path).run


def _checked(subject: Subject, run: Run, card: Card, dynamic: frozenset[str], batch: int) -> float:
    images = images_for(batch, subject.channels, subject.size, dynamic, subject.smallest)
    error = compare(subject.net, run, card.outputs, images)
    if card.precision != INT8 and error > BUDGETS[card.precision]:
        raise FovealError(
            f"The file differs from the network by {error:.1e} of its largest output, and {card.precision} allows "
            f"{BUDGETS[card.precision]:.0e}: it was not kept."
        )
    return error
