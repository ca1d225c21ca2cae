"""Write a program as one ONNX file."""

from __future__ import annotations

from pathlib import Path

import onnx_ir
import torch
from onnx_ir.passes import common
from onnxscript import optimizer
from torch.export import ExportedProgram

from foveal.runtime.card import KEY, Card

from .onnx_operators import OPSET, TRANSLATIONS

_LARGEST_FILE = 1_900_000_000  # bytes; a protobuf message ends at 2 GiB
_NO_LIMIT = 1 << 40


def write_onnx(program: ExportedProgram, card: Card, path: Path) -> int:
    """Write a program that was traced with attention left whole, and return its number of nodes.

    The weights lie in the file, or beside it in ``path`` + ".data" if they are too many for one.
    """
    with torch.no_grad():
        exported = torch.onnx.export(
            program,
            dynamo=True,
            input_names=[card.input.name],
            output_names=list(card.outputs),
            opset_version=OPSET,
            custom_translation_table=TRANSLATIONS,
            optimize=False,
            verbose=False,
        )
        assert exported is not None
        model = exported.model
        _fold(model)
    _name_axes(model)
    _forget_origin(model)
    model.producer_name, model.producer_version = KEY, card.foveal
    model.metadata_props[KEY] = card.text()
    weights = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    beside = f"{path.name}.data" if weights > _LARGEST_FILE else None
    onnx_ir.save(model, path, external_data=beside)
    return len(list(model.graph))


def _fold(model: onnx_ir.Model) -> None:
    """Compute what depends only on weights, whatever its size. The exporter's own passes take ten times as long."""
    common.InlinePass()(model)
    optimizer.fold_constants(model, onnx_shape_inference=False, input_size_limit=_NO_LIMIT, output_size_limit=_NO_LIMIT)
    for each in (
        common.RemoveUnusedNodesPass(),
        common.IdentityEliminationPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
    ):
        each(model)


def _name_axes(model: onnx_ir.Model) -> None:
    """Call the free axes of inputs and outputs by what they are: the exporter numbers them, as s77."""
    (images,) = model.graph.inputs
    assert images.shape is not None
    named = zip(images.shape, ("batch", "channels", "height", "width"), strict=True)
    names = {axis.value: name for axis, name in named if isinstance(axis, onnx_ir.SymbolicDim)}
    for value in (*model.graph.inputs, *model.graph.outputs):
        assert value.shape is not None
        for number, axis in enumerate(value.shape):
            if isinstance(axis, onnx_ir.SymbolicDim) and axis.value in names:
                value.shape[number] = names[axis.value]


def _forget_origin(model: onnx_ir.Model) -> None:
    """Remove what the exporter notes beside every node and value: the lines of code it came from, with this machine's
    paths."""
    values = [*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()]
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        values += node.outputs
    for value in values:
        value.metadata_props.clear()
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
