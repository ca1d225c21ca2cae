"""Products of an ONNX graph in int8, written as ONNX's QuantizeLinear and DequantizeLinear around each.

Runtimes that see the pairs around a product compute it in int8. ``onnxruntime.quantization`` writes the same form; here
every try of a selection would take it a minute for a network of 28 million weights, and it knows no clamped ranges.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .calibration import Calibrated, rounds_output
from .numbers import Affine, quantized_weight
from .products import CONV, GEMM, Product

if TYPE_CHECKING:
    import onnx

_LARGEST_BIAS = 2**30


class Rewriting:
    """Puts sets of a model's products into int8.

    Args:
        model: in fp32; it is not changed.
        products: of it.
        found: by calibration.
        outputs: write the form that ONNX Runtime computes in int8: outputs of convolutions rounded, biases as integers.
            OpenVINO needs neither. The scales of weights are those that such biases fit in either way, so that both
            runtimes multiply the same integers.
    """

    def __init__(self, model: onnx.ModelProto, products: Sequence[Product], found: Calibrated, outputs: bool):
        self._model, self._found, self._outputs = model, found, outputs
        self._products = {one.node: one for one in products}

    def model(self, chosen: Collection[str]) -> onnx.ModelProto:
        """Return the model with the products of these nodes in int8."""
        return _Graph(self._model, self._found, self._outputs).rewritten(
            {name: one for name, one in self._products.items() if name in chosen}
        )


class _Graph:
    def __init__(self, model: onnx.ModelProto, found: Calibrated, outputs: bool):
        import onnx

        self._found, self._outputs = found, outputs
        self._result = onnx.ModelProto()
        self._result.CopyFrom(model)
        # The exporter's types of values inside the graph: they are not needed, and would say fp32 of what is not.
        del self._result.graph.value_info[:]
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, np.ndarray] = {}
        self._rounded: set[str] = set()

    def rewritten(self, products: dict[str, Product]) -> onnx.ModelProto:
        from onnx import numpy_helper

        graph = self._result.graph
        for node in graph.node:
            if node.name in products:
                self._product(node, products[node.name])
            else:
                self._nodes.append(node)
        nodes = self._nodes
        used = {name for node in nodes for name in node.input} | {one.name for one in graph.output}
        kept = [one for one in graph.initializer if one.name in used]
        new = [numpy_helper.from_array(value, name) for name, value in self._constants.items()]
        copies = [_copy(one) for one in nodes]
        del graph.node[:]
        graph.node.extend(copies)
        kept = [_copy(one) for one in kept]
        del graph.initializer[:]
        graph.initializer.extend([*kept, *new])
        return self._result

    def _product(self, node: onnx.NodeProto, product: Product) -> None:
        numbers = self._found.numbers[product.input]
        integers, scales = quantized_weight(product.weight)
        if product.bias is not None:  # which is an integer of 32 bits times the scales of input and weight
            least = np.abs(product.bias) / (numbers.scale * np.float32(_LARGEST_BIAS))
            small = scales < least
            scales = np.where(small, least, scales).astype(np.float32)
            integers[small] = np.rint(product.weight[small] / scales[small, None]).astype(np.int8)
        node.input[0] = self._as_uint8(product.input, numbers)
        node.input[1] = self._weight(product, node, integers, scales)
        if product.bias is not None and self._outputs:
            node.input[2] = self._bias(product, scales * numbers.scale)
        if not (self._outputs and rounds_output(product)):
            self._nodes.append(node)
            return
        exact = f"{product.output}_exact"
        node.output[0] = exact
        self._nodes.append(node)
        self._pair(exact, self._found.numbers[product.output], product.output)

    def _as_uint8(self, tensor: str, numbers: Affine) -> str:
        """Return the name of a tensor rounded to uint8."""
        result = f"{tensor}_rounded"
        if result not in self._rounded:
            self._rounded.add(result)
            self._pair(tensor, numbers, result)
        return result

    def _pair(self, tensor: str, numbers: Affine, result: str) -> None:
        scale = self._constant(f"{result}_scale", np.asarray(numbers.scale, np.float32))
        zero = self._constant(f"{result}_zero", np.asarray(numbers.zero_point, np.uint8))
        self._add("QuantizeLinear", [tensor, scale, zero], f"{result}_uint8")
        self._add("DequantizeLinear", [f"{result}_uint8", scale, zero], result)

    def _weight(self, product: Product, node: onnx.NodeProto, integers: np.ndarray, scales: np.ndarray) -> str:
        name, axis = f"{product.node}_weight", 0
        if product.kind == CONV:
            integers = integers[:, :, None, None]
        elif product.kind != GEMM or not any(one.name == "transB" and one.i for one in node.attribute):
            integers, axis = np.ascontiguousarray(integers.T), 1
        zeros = self._constant(f"{name}_zero", np.zeros(len(scales), np.int8))
        given = [self._constant(f"{name}_int8", integers), self._constant(f"{name}_scale", scales), zeros]
        return self._add("DequantizeLinear", given, name, axis=axis)

    def _bias(self, product: Product, scales: np.ndarray) -> str:
        assert product.bias is not None
        name, scales = f"{product.node}_bias", scales.astype(np.float32)
        integers = np.rint(product.bias / scales.astype(np.float64)).astype(np.int32)
        zeros = self._constant(f"{name}_zero", np.zeros(len(scales), np.int32))
        given = [self._constant(f"{name}_int32", integers), self._constant(f"{name}_scale", scales), zeros]
        return self._add("DequantizeLinear", given, name, axis=0)

    def _constant(self, name: str, value: np.ndarray) -> str:
        self._constants[name] = value
        return name

    def _add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self._nodes.append(helper.make_node(kind, inputs, [output], name=f"{output}_{kind}", **attributes))
        return output


def _copy(message):
    """Return a copy of a message of a repeated field that is about to be emptied."""
    new = type(message)()
    new.CopyFrom(message)
    return new
