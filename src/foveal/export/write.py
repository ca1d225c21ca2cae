"""Export a network: fold, trace, write, check, and only then give the file its name."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.export import ExportedProgram

from foveal.errors import FovealError
from foveal.files import staging_folder, write_errors
from foveal.runtime.card import Card

from .check import BUDGETS, Run, compare, images_for
from .formats import INT8, Format, beside, check_request, check_target, format_of
from .int8 import Batches, Calibration, Int8Report, write_int8
from .program import BATCH, SIZE, example, trace
from .quiet import quietly
from .subject import Subject

_OPERATOR = re.compile(r"(?:op='|target=(?:torch\.ops\.)?)([\w.]+)")  # that PyTorch's exporter could not translate
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


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
    path: str | Path,
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
        dynamic: what the file leaves free: "batch", "size", or both.
        batch: images per call, unless the batch is dynamic.
        calibration: the images for int8.
        on_step: called with what is done next, in words.

    Raises:
        FovealError: the format lacks the precision or an operator, the result differs from the network, or it cannot
            be written. Nothing is left behind then.
    """
    start, path = time.perf_counter(), Path(path)
    free = frozenset(dynamic.split(",") if isinstance(dynamic, str) else dynamic)
    kind = format_of(format)
    check_request(format, precision, free, batch)
    check_target(path, kind)
    if (precision == INT8) != (calibration is not None):
        raise FovealError("int8 needs images to calibrate on, and other precisions take none.")
    if SIZE in free and min(subject.size) < subject.smallest:
        raise FovealError(
            f"Files of free size take images of {subject.smallest} pixels or more, not {min(subject.size)}: pass a "
            "larger --size, or leave size out of --dynamic."
        )
    card = subject.card(precision, None if BATCH in free else batch, SIZE in free)
    photographs = None if calibration is None else calibration.load(card)
    dtype = torch.float32 if precision in kind.from_fp32 else DTYPES[precision]
    on_step("folding and tracing")
    images = example(max(batch, 2) if BATCH in free else batch, subject.channels, subject.size)
    with quietly():
        program = trace(subject.folded(dtype), images, free, whole=kind.whole, smallest=subject.smallest)
    _check_outputs(program, card)
    with staging_folder(path.parent) as folder, write_errors(path):
        staged, report = folder / path.name, None
        on_step(f"writing {kind.title}")
        with quietly(), _expressed(kind):
            if photographs is None:
                operators = _write(program, card, staged, format)
            else:
                operators, report = _write_int8(subject, program, card, staged, format, photographs, on_step)
        on_step("comparing with the network")
        with quietly():
            error = _checked(subject, _runner(staged, card, format), card, free, batch)
        written = {item.name for item in folder.iterdir()}
    for stale in beside(path, kind):  # of the file that was replaced
        if stale.name not in written:
            stale.unlink(missing_ok=True)
    return Exported(path, card, operators, error, time.perf_counter() - start, report)


def _check_outputs(program: ExportedProgram, card: Card) -> None:
    """Raise FovealError if a network does not return what its card says."""
    (node,) = program.graph.find_nodes(op="output")
    outputs = [one.meta["val"] for one in node.args[0]]
    if len(outputs) != len(card.outputs):
        raise FovealError(
            f"The network returns {len(outputs)} outputs, and outputs names {len(card.outputs)}: name each."
        )
    if card.task == "classification" and outputs[0].shape[1] != len(card.classes):
        raise FovealError(
            f"The network has {outputs[0].shape[1]} classes, and classes names {len(card.classes)}: name each."
        )


@contextmanager
def _expressed(kind: Format) -> Iterator[None]:
    """Turn what exporters raise for an operator that a format lacks into one sentence."""
    try:
        yield
    except (RuntimeError, NotImplementedError, ValueError, TypeError, AssertionError) as error:  # no common class
        text = str(error.__cause__ or error).strip()
        operator = _OPERATOR.search(text)
        first = text.partition("\n")[0].rstrip(".:") or type(error).__name__
        reason = f"the operator {operator[1]}" if operator else first
        sentence = f"This network cannot be written as {kind.title} ({reason}): choose another format."
        raise FovealError(sentence) from error


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

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
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
