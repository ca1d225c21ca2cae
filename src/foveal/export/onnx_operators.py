"""The operators of foveal that stay whole while a network is traced for ONNX, from ONNX's operators.

The same forms as ``standard_form`` of ``foveal.ops.aggregated_attention`` and ``foveal.ops.dynamic_dwconv``, which give
the reasons.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir
import torch
from onnxscript import opset20

from foveal.ops.numerics import EPS

# PyTorch's default. From 21 on, group norms are GroupNormalization, which gives NaN on blank maps in ONNX Runtime.
OPSET = opset20.version
_END = 2**63 - 1  # of a slice to the last one
op: Any = opset20  # its annotations do not know that numbers become constants
AXIS = [2]  # the dimension of a head, or the keys


def rows_attention(
    q, k, v, k_pool, v_pool, scale, embedding, pool_bias, local_bias, tokens, token_bias, valid, width, window
):  # fmt: skip
    """(B, h, d, N); see ``foveal.ops.aggregated_attention.standard_form.rows_attention``."""
    kind, wide, count = q.dtype, scale.dtype, q.shape[3]  # computed values have no shape here
    q, k, v, k_pool, v_pool = (
        x if x is None or x.dtype == wide else op.Cast(x, to=wide) for x in (q, k, v, k_pool, v_pool)
    )
    unit_q = _unit(q)
    scaled = op.Mul(unit_q if embedding is None else op.Add(unit_q, embedding), scale)
    pooled = op.MatMul(op.Transpose(_unit(k_pool), perm=[0, 1, 3, 2]), scaled)
    pooled = pooled if pool_bias is None else op.Add(pooled, pool_bias)
    if window == 0:
        y = op.MatMul(v_pool, _softmax(pooled))
        return y if kind == wide else op.Cast(y, to=kind)
    keys = _neighbours(_unit(k), count, width, window)
    local = op.Concat(*(op.ReduceSum(op.Mul(scaled, key), AXIS) for key in keys), axis=2)
    shares = _softmax(op.Concat(op.Add(local, local_bias), pooled, axis=2))
    area = window * window
    local, pooled = op.Slice(shares, [0], [area], AXIS), op.Slice(shares, [area], [_END], AXIS)
    positional = None if tokens is None else op.MatMul(tokens, unit_q)
    if token_bias is not None:
        positional = token_bias if positional is None else op.Add(positional, token_bias)
    if positional is not None:
        local = op.Add(local, op.Mul(positional, valid))
    y = op.MatMul(v_pool, pooled)
    for share, value in zip(
        op.Split(local, axis=2, num_outputs=area), _neighbours(v, count, width, window), strict=True
    ):
        y = op.Add(y, op.Mul(share, value))
    return y if kind == wide else op.Cast(y, to=kind)


def convolve_samples(x, weight, bias):
    """(B, C, H, W); see ``foveal.ops.dynamic_dwconv.standard_form.convolve_samples``.

    A batch of any length is a loop over its images: four to ten times as fast as shifted maps in ONNX Runtime and
    OpenVINO.
    """
    batch, channels, kernel = x.shape[0], x.shape[1], weight.shape[3]
    settings: dict[str, Any] = dict(kernel_shape=[kernel, kernel], pads=[kernel // 2] * 4)
    if not isinstance(batch, int):
        return op.Scan(x, weight, bias, body=_one_sample(x, weight, bias, settings), num_scan_inputs=3)
    maps = op.Reshape(x, [1, batch * channels, 0, 0])  # 0 keeps an axis
    kernels = op.Reshape(weight, [batch * channels, 1, kernel, kernel])
    y = op.Conv(maps, kernels, op.Reshape(bias, [batch * channels]), group=batch * channels, **settings)
    return op.Reshape(y, [batch, channels, 0, 0])


def _one_sample(x: Any, weight: Any, bias: Any, settings: dict[str, Any]) -> onnx_ir.Graph:
    """Return the body of the loop: a depthwise convolution of one image (C, H, W)."""
    names = ("sample", "kernels", "biases")
    given = [
        onnx_ir.Value(name=name, shape=onnx_ir.Shape(value.shape[1:]), type=onnx_ir.TensorType(value.dtype))
        for name, value in zip(names, (x, weight, bias), strict=True)
    ]
    tape = onnx_ir.tape.Tape()
    first, second = (tape.op("Constant", [], {"value_ints": [axis]}) for axis in (0, 1))
    maps, kernels = tape.op("Unsqueeze", [given[0], first]), tape.op("Unsqueeze", [given[1], second])
    y = tape.op("Conv", [maps, kernels, given[2]], {"group": x.shape[1], **settings})
    result = tape.op("Squeeze", [y, first])
    result.shape, result.type = given[0].shape, given[0].type
    return onnx_ir.Graph(given, [result], nodes=tape.nodes, name="sample", opset_imports={"": OPSET})


def _unit(x: Any) -> Any:
    return op.Div(x, op.Max(op.ReduceL2(x, AXIS), op.CastLike(EPS, x)))


def _softmax(x: Any) -> Any:
    powers = op.Exp(op.Sub(x, op.ReduceMax(x, AXIS)))
    return op.Div(powers, op.ReduceSum(powers, AXIS))


def _neighbours(x: Any, count: Any, width: Any, window: int) -> list[Any]:
    radius = window // 2
    if isinstance(width, int) and isinstance(count, int):
        margin = radius * (width + 1)
        padded = op.Pad(x, [margin, margin], None, [3])
        starts = [row * width + column for row in range(window) for column in range(window)]
        return [op.Slice(padded, [start], [start + count], [3]) for start in starts]
    line = op.Reshape(width, [1])
    count = op.Shape(x, start=3, end=4)
    margin = op.Mul(op.Add(line, [1]), [radius])
    padded = op.Pad(x, op.Concat(margin, margin, axis=0), None, [3])
    slices = []
    for row in range(window):
        for column in range(window):
            start = op.Add(op.Mul(line, [row]), [column])
            slices.append(op.Slice(padded, start, op.Add(start, count), [3]))
    return slices


#: what ``torch.onnx.export`` takes as ``custom_translation_table``
TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.foveal.rows_attention.default: rows_attention,
    torch.ops.foveal.convolve_samples.default: convolve_samples,
}
