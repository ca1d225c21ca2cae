"""A linear layer in int8, in place of a ``Layer`` of a folded network."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from foveal.ops.int8 import Int8Weight, int8_linear, quantize
from foveal.ops.int8.quantize import LEVELS, Number

from ..folded.parts import InferenceOnly, Layer

_LARGEST_WEIGHT = 127


class QuantizedLayer(InferenceOnly):
    """A ``Layer`` with an int8 weight and inputs rounded to uint8, whose results have the dtype of its inputs.

    Buffers: ``weight`` (C_out, C_in) int8; ``weight_scale`` and ``bias`` (C_out,) float32; ``input_scale`` () float32;
    ``input_zero_point`` () int64. A weight w means w * weight_scale of its row, an input q means
    (q - input_zero_point) * input_scale. A LayerNorm before the product is computed in float32.
    """

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor
    input_scale: Tensor
    input_zero_point: Tensor

    def __init__(self, inputs: int, outputs: int, norm: nn.LayerNorm | None = None):
        super().__init__()
        self.register_buffer("weight", torch.zeros(outputs, inputs, dtype=torch.int8))
        self.register_buffer("weight_scale", torch.ones(outputs, dtype=torch.float32))
        self.register_buffer("bias", torch.zeros(outputs, dtype=torch.float32))
        self.register_buffer("input_scale", torch.ones((), dtype=torch.float32))
        self.register_buffer("input_zero_point", torch.zeros((), dtype=torch.int64))
        self.norm = None if norm is None else copy.deepcopy(norm).float()
        self._constants: tuple[Any, ...] = (None,)
        self.eval()

    @classmethod
    def of(cls, layer: Layer, low: float, high: float) -> QuantizedLayer:
        """Quantize a layer whose product has inputs from ``low`` to ``high``; numbers outside are clamped to these."""
        outputs, inputs = layer.weight.shape
        new = cls(inputs, outputs, layer.norm)
        new.weight, new.weight_scale = quantize_weight(layer.weight)
        new.bias = layer.bias.detach().float().clone()
        scale, zero_point = affine(low, high)
        new.input_scale, new.input_zero_point = torch.tensor(scale, dtype=torch.float32), torch.tensor(zero_point)
        return new

    def forward(self, x: Tensor, *, gelu: bool = False, add: Tensor | None = None) -> Tensor:
        """(..., C_in) to (..., C_out), after an exact GELU with ``gelu``, or plus ``add`` (..., C_out)."""
        scale, zero_point, weight = self._ready()
        q = quantize(x, scale, zero_point, self.norm)
        return int8_linear(q, scale, zero_point, weight, x.dtype, gelu=gelu, add=add)

    def _ready(self) -> tuple[Number, Number, Int8Weight]:
        """Return what a call needs of the buffers; kept until one of them is written or replaced."""
        if torch.compiler.is_compiling():
            return self.input_scale, self.input_zero_point.float(), self._weight()
        state = _identity(self._buffers)
        if state is None or self._constants[0] != state:
            self._constants = state, (float(self.input_scale), int(self.input_zero_point), self._weight())
        return self._constants[1]

    def _weight(self) -> Int8Weight:
        return Int8Weight(self.weight, self.weight_scale.float(), self.bias.float())

    def __getstate__(self) -> dict[str, Any]:
        """Leave out oneDNN's copy of the weight, which can neither be copied nor saved."""
        return {**self.__dict__, "_constants": (None,)}

    def extra_repr(self) -> str:
        outputs, inputs = self.weight.shape
        return f"{inputs}, {outputs}"


def _identity(buffers: dict[str, Tensor | None]) -> tuple | None:
    """Return what changes when a buffer is written or replaced; None if writes cannot be seen."""
    tensors = [t for t in buffers.values() if t is not None]
    if any(t.is_inference() for t in tensors):
        return None
    return tuple((t.data_ptr(), t._version) for t in tensors)


def quantize_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return (C_out, C_in) int8 and the float32 scale of each row, whose largest magnitude becomes 127."""
    wide = weight.detach().double()
    scale = (wide.abs().amax(1) / _LARGEST_WEIGHT).float()
    scale = torch.where(scale > 0, scale, 1.0)  # a row of zeros
    return (wide / scale[:, None]).round().clamp(-_LARGEST_WEIGHT, _LARGEST_WEIGHT).to(torch.int8), scale


def affine(low: float, high: float) -> tuple[float, int]:
    """Return scale and zero point with which 0 ... 255 cover ``low`` to ``high``, extended to include 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / LEVELS or 1.0  # inputs that are all 0
    return scale, round(-low / scale)
