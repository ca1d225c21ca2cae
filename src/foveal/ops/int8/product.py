"""Products of uint8 activations and int8 weights, through oneDNN where its sums are exact.

Without VNNI instructions, oneDNN adds neighbouring products in int16, which overflows. There, and wherever a tracer
must see PyTorch's own operators, the same integers are multiplied in float32, which is exact for sums below 2**24.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..host import observed
from ..linear import linear
from ..numerics import without_autocast
from .quantize import Number

_LARGEST = 255 * 127  # product of a uint8 and an int8
_EXACT_SUM = 2**24 // _LARGEST // 64 * 64  # inputs whose products have a sum below 2**24
_CHECKED_SHAPES = ((1, 64, 32), (64, 256, 64))  # rows, inputs, outputs: a vector and a matrix


class Int8Weight:
    """An int8 weight (C_out, C_in) that means weight * scale, with a scale for every row, and a bias.

    Args:
        weight: (C_out, C_in) int8.
        scale: (C_out,) float32.
        bias: (C_out,) float32.
    """

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor):
        self.weight, self.scale, self.bias = weight, scale, bias
        self._packed: tuple[Tensor, Tensor, Tensor] | None = None

    def packed(self, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return weight, scales and zero points as oneDNN takes them; the layout is chosen for the ``rows`` of the
        first call."""
        if self._packed is None:
            layout = torch.ops.onednn.qlinear_prepack(self.weight, [rows, self.weight.shape[1]])
            self._packed = layout, self.scale, torch.zeros(len(self.scale), dtype=torch.int64, device="cpu")
        return self._packed


def int8_linear(
    q: Tensor,
    scale: Number,
    zero_point: Number,
    weight: Int8Weight,
    dtype: torch.dtype,
    *,
    gelu: bool = False,
    add: Tensor | None = None,
) -> Tensor:
    """Return ((q - zero_point) * scale) W^T + b in ``dtype``, after an exact GELU with ``gelu``, or plus ``add``.

    Sums are integers; scales, bias, GELU and addition follow in float32.

    Args:
        q: (..., C_in) uint8, see ``quantize``.
        scale, zero_point: what its numbers mean; tensors () only while a tracer runs.
        weight: W (C_out, C_in) and b.
        dtype: of the result, float32 or bfloat16.
        add: (..., C_out); if it has another dtype, the result has the wider of the two.
    """
    if add is not None and add.dtype is not dtype:  # under autocast
        return int8_linear(q, scale, zero_point, weight, dtype, gelu=gelu) + add
    if observed() or q.device.type != "cpu" or q.numel() == 0 or not runs_in_onednn(dtype):
        return _in_float32(q, scale, zero_point, weight, dtype, gelu, add)
    return _in_onednn(q, scale, zero_point, weight, dtype, gelu, add)


def _in_onednn(
    q: Tensor, scale: Number, zero_point: Number, w: Int8Weight, dtype: torch.dtype, gelu: bool, add: Tensor | None
) -> Tensor:
    operator = torch.ops.onednn.qlinear_pointwise
    factors = (q, scale, zero_point, *w.packed(q.numel() // q.shape[-1]))
    output = (1.0, 0, dtype)  # not quantized
    if add is None:
        return operator(*factors, w.bias, *output, "gelu" if gelu else "none", [], "none" if gelu else "")
    return operator.binary(*factors, add.contiguous(), w.bias, *output, 1.0, 0, "add", 1.0, "none", [], "")


def _in_float32(
    q: Tensor, scale: Number, zero_point: Number, w: Int8Weight, dtype: torch.dtype, gelu: bool, add: Tensor | None
) -> Tensor:
    with without_autocast(q.device):
        parts = zip((q.float() - zero_point).split(_EXACT_SUM, -1), w.weight.float().split(_EXACT_SUM, 1), strict=True)
        sums = functools.reduce(Tensor.add_, (linear(x.contiguous(), part.contiguous()) for x, part in parts))
    y = torch.addcmul(w.bias, sums, w.scale * scale)
    y = F.gelu(y) if gelu else y
    return (y if add is None else y + add).to(dtype)


@functools.cache
def runs_in_onednn(dtype: torch.dtype) -> bool:
    """Whether oneDNN computes int8 products fast and exactly on this processor, with results in ``dtype``."""
    return why_slow() is None and all(_is_exact(*shape, dtype) for shape in _CHECKED_SHAPES)


def _is_exact(rows: int, inputs: int, outputs: int, dtype: torch.dtype) -> bool:
    """Whether oneDNN's sum of the largest products is right, with each of the operations after it."""
    q = torch.full((rows, inputs), 255, dtype=torch.uint8, device="cpu")
    largest = torch.full((outputs, inputs), 127, dtype=torch.int8, device="cpu")
    one = torch.ones(outputs, dtype=torch.float32, device="cpu")
    weight = Int8Weight(largest, one, torch.zeros_like(one))
    expected = torch.full((rows, outputs), float(inputs * _LARGEST), dtype=dtype, device="cpu")
    try:
        return all(
            torch.equal(_in_onednn(q, 1.0, 0, weight, dtype, gelu, add), expected)
            for gelu, add in ((False, None), (True, None), (False, torch.zeros_like(expected)))
        )
    except (RuntimeError, AttributeError):  # no such operator in this build of PyTorch, or not in this dtype
        return False


@functools.cache
def why_slow() -> str | None:
    """Why int8 products are not faster than others on this processor, or None."""
    if not torch.backends.mkldnn.is_available():
        return "this PyTorch was built without oneDNN"
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    avx512 = getattr(torch.cpu, "_is_vnni_supported", lambda: False)()
    if not (avx512 or capabilities.get("avx512_vnni") or capabilities.get("avx_vnni")):
        return "this processor has no VNNI instructions"
    return None
