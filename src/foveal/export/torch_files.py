"""Write a program as a file of PyTorch: torch.export's own, or compiled by AOTInductor. Their card lies beside them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.export import ExportedProgram

from foveal.runtime.card import Card


def write_torch(program: ExportedProgram, card: Card, path: Path) -> int:
    """Write FILE.pt2 for ``torch.export.load``, and return the number of operators."""
    _forget_origin(program)
    torch.export.save(program, path, extra_files={"foveal.json": card.text()})
    _write_card(card, path)
    return _operators(program)


def write_aoti(program: ExportedProgram, card: Card, path: Path) -> int:
    """Write FILE.pt2 for ``torch._inductor.aoti_load_package``, compiled for this machine; return the number of
    operators."""
    from torch._inductor import aoti_compile_and_package

    with torch.no_grad():
        aoti_compile_and_package(program, package_path=str(path))
    _write_card(card, path)
    return _operators(program)


def _forget_origin(program: ExportedProgram) -> None:
    """Remove the lines of code that every operator came from, with this machine's paths."""
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)


def _write_card(card: Card, path: Path) -> None:
    path.with_suffix(".json").write_text(card.text() + "\n", encoding="utf-8")


def _operators(program: ExportedProgram) -> int:
    return sum(node.op == "call_function" for node in program.graph.nodes)
