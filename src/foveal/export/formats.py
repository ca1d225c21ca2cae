"""The formats of exported files, and what is checked before anything is computed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from foveal.errors import FovealError
from foveal.files import check_writable
from foveal.near import did_you_mean

from .program import BATCH, SIZE

INT8 = "int8"


@dataclass(frozen=True)
class Format:
    """A format of files.

    Attributes:
        title: its name in sentences.
        ending: of the file.
        beside: endings of the files that may lie beside it.
        precisions: that the format has.
        from_fp32: precisions whose files are written from the network in fp32.
        whole: whether our exporter translates attention and per-sample convolutions itself.
        packages: what must be installed.
    """

    title: str
    ending: str
    beside: tuple[str, ...]
    precisions: tuple[str, ...]
    from_fp32: tuple[str, ...] = ()
    whole: bool = False
    packages: tuple[str, ...] = ()


FORMATS = {
    "onnx": Format(
        "ONNX", ".onnx", (".onnx.data",), ("fp32", "fp16", INT8), from_fp32=(INT8,), whole=True,
        packages=("onnx", "onnxscript", "onnxruntime"),
    ),
    "openvino": Format(
        "OpenVINO", ".xml", (".bin",), ("fp32", "bf16", "fp16", INT8), from_fp32=("bf16", "fp16", INT8),
        whole=True, packages=("onnx", "onnxscript", "openvino"),
    ),
    "torch": Format("torch.export", ".pt2", (".json",), ("fp32", "bf16", "fp16")),
    "aoti": Format("AOTInductor", ".pt2", (".json",), ("fp32", "bf16")),
}  # fmt: skip


def format_of(name: str) -> Format:
    """Return the format called ``name``. Raises FovealError if there is none."""
    if name not in FORMATS:
        raise FovealError(
            f"There is no format {name!r}{did_you_mean(name, FORMATS, most=1)}: choose one of {', '.join(FORMATS)}."
        )
    return FORMATS[name]


def check_request(format: str, precision: str, dynamic: frozenset[str], batch: int) -> None:
    """Raise FovealError for what a format does not have, or what is not installed for it."""
    kind = format_of(format)
    if precision not in kind.precisions:
        raise FovealError(f"{kind.title} files have no {precision} here: choose one of {', '.join(kind.precisions)}.")
    if dynamic - {BATCH, SIZE}:
        raise FovealError(f"dynamic takes batch and size, not {', '.join(sorted(dynamic - {BATCH, SIZE}))}.")
    if not isinstance(batch, int) or batch < 1:
        raise FovealError(f"batch must be a whole number of at least 1, not {batch}.")
    needed = (*kind.packages, "onnxruntime") if precision == INT8 else kind.packages  # which calibrates
    missing = [name for name in dict.fromkeys(needed) if find_spec(name) is None]
    if missing:
        raise FovealError(f'{kind.title} files need {", ".join(missing)}: pip install "foveal[export]".')
    if format == "aoti" and shutil.which("g++") is None and shutil.which("clang++") is None:
        raise FovealError("AOTInductor compiles C++, and there is no compiler: install g++.")


def check_target(path: Path, kind: Format) -> None:
    """Raise FovealError if a file of a format cannot be written to ``path``; nothing is created."""
    if path.suffix != kind.ending:
        raise FovealError(f"{path} does not end in {kind.ending}, as {kind.title} files do: rename it.")
    for target in (path, *beside(path, kind)):
        if target.is_dir():
            raise FovealError(f"{target} is a folder, and a file of this name is to be written: pass another --out.")
    if not path.exists():
        for target in beside(path, kind):
            if target.exists():
                raise FovealError(f"{target} exists, and is not of a file {path}: move it, or pass another --out.")
    check_writable(path.parent)


def beside(path: Path, kind: Format) -> list[Path]:
    """Return the files of a format that may lie beside its file ``path``."""
    return [path.with_name(path.name.removesuffix(kind.ending) + ending) for ending in kind.beside]
