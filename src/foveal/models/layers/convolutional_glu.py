"""TransNeXt's channel mixer."""

from __future__ import annotations

from timm.models import register_notrace_module
from torch import Tensor, nn

from foveal.ops import gated_dwconv

from ..pyramid import Linear


@register_notrace_module
class ConvolutionalGLU(nn.Module):
    """W2(GELU(DWConv(g)) * v) with [g, v] = W1 x: a gate over neighbouring tokens (section 3.2, equation 19)."""

    def __init__(self, dim: int, ratio: float, drop: float = 0.0, device=None, dtype=None):
        super().__init__()
        dd = dict(device=device, dtype=dtype)
        hidden = int(2 * dim * ratio / 3)
        self.fc1 = Linear(dim, 2 * hidden, **dd)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, **dd)
        self.fc2 = Linear(hidden, dim, **dd)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        y = gated_dwconv(self.fc1(x), None, self.dwconv.weight, self.dwconv.bias)
        return self.drop(self.fc2(self.drop(y)))
