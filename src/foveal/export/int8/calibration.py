"""Calibration: the ranges of every product's inputs and outputs on images, and the error that int8 then causes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from foveal.errors import FovealError

from .images import Batches
from .numbers import Affine, quantized_weight
from .products import Product

if TYPE_CHECKING:
    import onnx

# Shares of the full range that are tried: clamping rare large values makes all others more precise.
SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
_ROWS = 64  # per image on which errors are measured
_SMALLEST = 1e-30


@dataclass(frozen=True)
class Calibrated:
    """What calibration found.

    Attributes:
        numbers: how each tensor is rounded, by its name: inputs of the products, and outputs of convolutions.
        errors: of each product, by its node: ||int8 - float|| / ||float - its mean over rows|| of its outputs.
    """

    numbers: dict[str, Affine]
    errors: dict[str, float]


@dataclass
class _Seen:
    """Sums over rows of a product's outputs, and of squared differences for every share."""

    rows: int
    sums: np.ndarray
    squares: float
    by_input: np.ndarray
    by_output: np.ndarray

    @property
    def varying(self) -> float:
        """||outputs - their mean over rows||^2. What is the same for every row says nothing about the image."""
        return max(self.squares - float(np.square(self.sums).sum()) / max(self.rows, 1), _SMALLEST)


def calibrate(model: onnx.ModelProto, products: Sequence[Product], images: Batches, outputs: bool) -> Calibrated:
    """Run a model in fp32 over the images twice: for the ranges, then for the errors in them.

    Args:
        outputs: whether outputs of convolutions are rounded as well.

    Raises:
        FovealError: a value on the images is not finite.
    """
    tensors = dict.fromkeys([*(one.input for one in products), *(one.output for one in products)])
    run = _runner(model, list(tensors))
    lows, highs = dict.fromkeys(tensors, math.inf), dict.fromkeys(tensors, -math.inf)
    for batch in images:
        for name, values in run(batch).items():
            lows[name], highs[name] = min(lows[name], float(values.min())), max(highs[name], float(values.max()))
    if not all(map(math.isfinite, (*lows.values(), *highs.values()))):
        raise FovealError(
            "The network's values on the calibration images are not finite: int8 needs a trained network."
        )
    choices = {name: [Affine.of(share * lows[name], share * highs[name]) for share in SHARES] for name in tensors}
    weights = {one.node: np.multiply(*_scaled(one)) for one in products}
    seen = {one.node: _Seen(0, np.zeros(len(one.weight)), 0.0, *np.zeros((2, len(SHARES)))) for one in products}
    for batch in images:
        found = run(batch)
        for one in products:
            _see(seen[one.node], one, weights[one.node], found, choices, len(batch))
    return _best(products, seen, choices, outputs)


def _scaled(product: Product) -> tuple[np.ndarray, np.ndarray]:
    integers, scales = quantized_weight(product.weight)
    return integers.astype(np.float32), scales[:, None]


def _see(
    seen: _Seen,
    product: Product,
    weight: np.ndarray,
    values: dict[str, np.ndarray],
    choices: dict[str, list[Affine]],
    images: int,
) -> None:
    x = product.rows(values[product.input], product.weight.shape[1])
    x = x[:: math.ceil(len(x) / (_ROWS * images))]
    exact = x @ product.weight.T
    complete = exact if product.bias is None else exact + product.bias
    seen.rows += len(x)
    seen.sums += exact.sum(0, dtype=np.float64)
    seen.squares += float(np.square(exact, dtype=np.float64).sum())
    for i in range(len(SHARES)):
        rounded = choices[product.input][i].rounded(x) @ weight.T
        seen.by_input[i] += float(np.square(rounded - exact).sum())
        seen.by_output[i] += float(np.square(choices[product.output][i].rounded(complete) - complete).sum())


def _best(
    products: Sequence[Product], seen: dict[str, _Seen], choices: dict[str, list[Affine]], outputs: bool
) -> Calibrated:
    """Return the share with the smallest error for every tensor. Products that share an input share its rounding."""
    together: dict[str, np.ndarray] = {}
    for one in products:
        share = seen[one.node].by_input / seen[one.node].varying
        together[one.input] = together.get(one.input, 0) + share
    numbers = {name: choices[name][int(errors.argmin())] for name, errors in together.items()}
    errors = {}
    for one in products:
        found = seen[one.node]
        square = float(found.by_input[int(together[one.input].argmin())])
        if outputs and rounds_output(one):
            square += float(found.by_output.min())
            numbers.setdefault(one.output, choices[one.output][int(found.by_output.argmin())])
        errors[one.node] = math.sqrt(square / found.varying)
    return Calibrated(numbers, errors)


def rounds_output(product: Product) -> bool:
    """Return whether ONNX Runtime computes a product in int8 only if its output is rounded, too."""
    return product.kind == "Conv"


def _runner(model: onnx.ModelProto, tensors: list[str]) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Return what runs a model, and returns tensors inside its graph by name."""
    import onnx
    import onnxruntime

    inside = onnx.ModelProto()
    inside.CopyFrom(model)
    known = {one.name for one in inside.graph.output}
    inside.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in known)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(inside.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given: Any = session.get_inputs()[0]
    batch = given.shape[0] if isinstance(given.shape[0], int) else None

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        count = len(images)
        if batch is not None and count < batch:
            images = np.concatenate([images, images[-1:].repeat(batch - count, 0)])
        return dict(zip(tensors, session.run(tensors, {given.name: images}), strict=True))

    return run
