"""Channel mixers of TransNeXt's ablations, beside ``ConvolutionalGLU``. Tokens are (B, H, W, C)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.nn.functional as F
from timm.models import register_notrace_module
from torch import Tensor, nn

from foveal.ops import multiscale_dwconv

from ..pyramid import Linear
from .convolutional_glu import ConvolutionalGLU


@register_notrace_module
class Mlp(nn.Module):
    """W2 GELU(W1 x); with ``conv`` PVTv2's W2 GELU(DWConv(W1 x)), the paper's ConvFFN."""

    def __init__(self, dim: int, ratio: float, drop: float = 0.0, conv: bool = False, device=None, dtype=None):
        super().__init__()
        dd = dict(device=device, dtype=dtype)
        hidden = int(dim * ratio)
        self.fc1 = Linear(dim, hidden, **dd)
        self.dwconv = _depthwise(hidden, **dd) if conv else None
        self.fc2 = Linear(hidden, dim, **dd)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        x = self.fc1(x)
        x = F.gelu(x) if self.dwconv is None else _convolved(self.dwconv, x, gelu=True)
        return self.drop(self.fc2(self.drop(x)))


@register_notrace_module
class GatedLinearUnit(nn.Module):
    """A GLU with [g, v] = W1 x, and a depthwise convolution at one of three places or none (appendix D.4).

    Args:
        dim: channels.
        ratio: hidden channels are ``int(2 / 3 * dim * ratio)``, as in ``ConvolutionalGLU``.
        drop: dropout of the hidden channels and of the output.
        design: 0 for W2(GELU(g) * v), 1 for W2(DWConv(GELU(g)) * v), 2 for W2(GELU(g) * DWConv(v)), and 3 for
            W2(DWConv(GELU(g) * v)).
    """

    def __init__(self, dim: int, ratio: float, drop: float = 0.0, design: int = 0, device=None, dtype=None):
        super().__init__()
        dd = dict(device=device, dtype=dtype)
        hidden = int(2 * dim * ratio / 3)
        self.design = design
        self.fc1 = Linear(dim, 2 * hidden, **dd)
        self.dwconv = _depthwise(hidden, **dd) if design else None
        self.fc2 = Linear(hidden, dim, **dd)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        gate, value = self.fc1(x).chunk(2, -1)
        gate = F.gelu(gate)
        if self.dwconv is None:
            x = gate * value
        elif self.design == 1:
            x = _convolved(self.dwconv, gate) * value
        elif self.design == 2:
            x = gate * _convolved(self.dwconv, value)
        else:
            x = _convolved(self.dwconv, gate * value)
        return self.drop(self.fc2(self.drop(x)))


def _depthwise(channels: int, **dd: Any) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, **dd)


def _convolved(conv: nn.Conv2d, x: Tensor, gelu: bool = False) -> Tensor:
    biases = None if conv.bias is None else [conv.bias]
    return multiscale_dwconv(x, [conv.weight], biases, identity=False, gelu=gelu)


#: name -> function of (dim, ratio, drop, device, dtype)
CHANNEL_MIXERS: dict[str, Callable[..., nn.Module]] = {
    "conv_glu": ConvolutionalGLU,
    "glu": GatedLinearUnit,
    "mlp": Mlp,
    "conv_mlp": partial(Mlp, conv=True),
    "conv_glu_type1": partial(GatedLinearUnit, design=1),
    "conv_glu_type2": partial(GatedLinearUnit, design=2),
    "conv_glu_type3": partial(GatedLinearUnit, design=3),
}
