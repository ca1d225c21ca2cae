"""Write a program as OpenVINO's pair of files, by way of ONNX."""

from __future__ import annotations

import tempfile
from pathlib import Path

from torch.export import ExportedProgram

from foveal.runtime.card import KEY, Card
from foveal.runtime.openvino_runtime import core

from .onnx_file import write_onnx


def write_openvino(program: ExportedProgram, card: Card, path: Path) -> int:
    """Write FILE.xml, and FILE.bin with the weights beside it; return the number of operations."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        onnx = Path(folder, "network.onnx")
        write_onnx(program, card, onnx)
        return convert(onnx, card.text(), path, half=card.precision == "fp16")


def convert(onnx: Path, card: str, path: Path, *, half: bool = False) -> int:
    """Convert an ONNX file to FILE.xml and FILE.bin with this card, and return the number of their operations.

    Args:
        half: keep weights in fp16.
    """
    import openvino

    model = core().read_model(onnx)
    model.set_rt_info(card, [KEY])
    openvino.save_model(model, path, compress_to_fp16=half)
    return len(model.get_ops())
