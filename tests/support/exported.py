"""Exported files for tests: linear classifiers whose answer is known, written node by node, and a network's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from foveal.ops import use_backend
from foveal.runtime.card import KEY, Card, Input, Resizing

SIDE, CLASSES = 64, tuple(f"class {number}" for number in range(10))
CARD = Card(
    task="classification",
    model="transnext_atto",
    precision="fp32",
    input=Input("images", None, (SIDE, SIDE)),
    resizing=Resizing(0.875, False, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    outputs=("logits",),
    classes=CLASSES,
    credit="nobody",
    foveal="0",
)


def card(**changes: Any) -> Card:
    """CARD with changes; those of its input by the names "batch", "size", "any_size" and "channels"."""
    names = ("batch", "size", "any_size", "channels", "name")
    given = replace(CARD.input, **{name: changes.pop(name) for name in names if name in changes})
    return replace(CARD, input=given, **changes)


WEIGHTS = np.random.default_rng(0).normal(size=(3, len(CLASSES))).astype(np.float32) * 100


def linear_logits(images: np.ndarray) -> np.ndarray:
    """What ``write_linear``'s files answer, in float64."""
    return images.astype(np.float64).mean((2, 3)) @ WEIGHTS.astype(np.float64)


def write_linear(
    path: Path, described: Card | None = CARD, *, says: Card | None = None, external: bool = False
) -> Path:
    """Write the mean color of an image times WEIGHTS, as FILE.onnx or FILE.xml.

    Args:
        described: the file's shapes, and its card; None for a file without one.
        says: another card for such a file.
        external: the weights are in FILE.onnx.data.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    given = CARD.input if described is None else described.input
    sides = ["height", "width"] if given.any_size else given.size
    shape = ["batch" if given.batch is None else given.batch, 3, *sides]
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["means"]),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [shape[0], len(CLASSES)])],
        [numpy_helper.from_array(WEIGHTS, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    written = says or described
    if written is not None:
        helper.set_model_props(model, {KEY: written.text()})
    stored = path.with_suffix(".onnx")
    options = dict(save_as_external_data=True, location=f"{stored.name}.data", size_threshold=0) if external else {}
    onnx.save(model, stored, **options)
    return stored if path.suffix == ".onnx" else as_openvino(stored, written)


def write_network(path: Path, model: nn.Module, described: Card) -> Path:
    """Write a network as FILE.onnx for a batch of one."""
    images = torch.zeros(1, described.input.channels, *described.input.size)
    with torch.no_grad(), use_backend("reference"):
        program = torch.onnx.export(
            model, (images,), dynamo=True, external_data=False, verbose=False, input_names=["images"],
            output_names=["logits"],
        )  # fmt: skip
    assert program is not None
    program.model.metadata_props[KEY] = described.text()
    program.save(path, external_data=False)
    return path


def as_openvino(path: Path, described: Card | None) -> Path:
    """Write FILE.xml and FILE.bin beside FILE.onnx. OpenVINO's convert_model would report its use to its makers."""
    import openvino

    model = openvino.Core().read_model(path)
    if described is not None:
        model.set_rt_info(described.text(), [KEY])
    openvino.save_model(model, path.with_suffix(".xml"), compress_to_fp16=False)
    return path.with_suffix(".xml")
