"""The products of an ONNX graph that may run in int8: those with a constant weight.

Depthwise convolutions are not among them: ONNX Runtime computes these in int8 many times slower than in fp32. Neither
are attention's products, of which both factors depend on the image.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

CONV, GEMM, MATMUL = "Conv", "Gemm", "MatMul"


@dataclass(frozen=True)
class Product:
    """A node y = x W^T + b.

    Attributes:
        node: its name; ``kind``: its operator.
        input, output: names of x and y.
        weight: (C_out, C_in) W.
        bias: (C_out,) b, or None.
    """

    node: str
    kind: str
    input: str
    output: str
    weight: np.ndarray = field(repr=False)
    bias: np.ndarray | None = field(repr=False)

    def rows(self, values: np.ndarray, channels: int) -> np.ndarray:
        """Return inputs or outputs of the node as rows (N, channels)."""
        if self.kind == CONV:
            values = np.moveaxis(values, 1, -1)
        return values.reshape(-1, channels)


def products_of(model: onnx.ModelProto) -> list[Product]:
    """Return the products of a model, in the order of its graph."""
    from onnx import numpy_helper

    constants = {one.name: one for one in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type not in (CONV, GEMM, MATMUL) or node.input[1] not in constants:
            continue
        weight = _weight(node, numpy_helper.to_array(constants[node.input[1]]))
        bias_name = node.input[2] if len(node.input) > 2 else ""
        if weight is None or (bias_name and bias_name not in constants) or node.input[0] in constants:
            continue
        bias = numpy_helper.to_array(constants[bias_name]) if bias_name else None
        if bias is not None and bias.shape != weight.shape[:1]:
            continue
        found.append(Product(node.name, node.op_type, node.input[0], node.output[0], weight, bias))
    return found


def _weight(node: onnx.NodeProto, weight: np.ndarray) -> np.ndarray | None:
    """Return a node's weight as (C_out, C_in), or None if it is not such a product."""
    from onnx import helper

    given = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    if weight.dtype != np.float32:
        return None
    if node.op_type == CONV:
        plain = given.get("group", 1) == 1 and all(side == 1 for side in (*weight.shape[2:], *given.get("strides", ())))
        return weight.reshape(weight.shape[:2]) if plain and not any(given.get("pads", ())) else None
    if weight.ndim != 2:
        return None
    if node.op_type == GEMM:
        if given.get("transA", 0) or given.get("alpha", 1.0) != 1 or given.get("beta", 1.0) != 1:
            return None
        return weight if given.get("transB", 0) else weight.T
    return weight.T
