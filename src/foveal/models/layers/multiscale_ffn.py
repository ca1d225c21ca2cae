"""TransXNet's channel mixer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.models import register_notrace_module
from torch import Tensor, nn

from foveal.ops import multiscale_dwconv
from foveal.ops.batch_norm import depthwise_block, fuses
from foveal.ops.host import observed
from foveal.ops.modules import is_plain_module, is_plain_sequence

from ..pyramid import PointwiseConv
from .depthwise import DepthwiseConv
from .layer_scale import LayerScale, drops_nothing, may_join, run_rest

FFN_KERNELS = (1, 3, 5, 7)


@register_notrace_module
class MultiScaleDWConv(nn.Module):
    """Depthwise convolutions of several sizes, each on an equal part of the channels, plus their input, and GELU.

    Section III-C.
    """

    def __init__(self, dim: int, kernels: Sequence[int] = FFN_KERNELS, **dd: Any):
        super().__init__()
        part = dim // len(kernels)
        self.dims = [dim - part * (len(kernels) - 1)] + [part] * (len(kernels) - 1)
        self.proj = nn.ModuleList(DepthwiseConv(d, k, **dd) for d, k in zip(self.dims, kernels, strict=True))

    @property
    def fused_layers(self) -> nn.ModuleList:
        """The layers that this module computes without calling them, for counting."""
        return self.proj

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        weights, biases = [conv.weight for conv in self.proj], [conv.bias for conv in self.proj]
        y = multiscale_dwconv(x.permute(0, 2, 3, 1), weights, biases, identity=True, gelu=True)
        return y.permute(0, 3, 1, 2)


class MultiScaleFFN(nn.Module):
    """Multi-scale feed-forward network (section III-C); without ``kernels`` a plain one (table VIII)."""

    def __init__(self, dim: int, ratio: float, drop: float = 0.0, kernels: Sequence[int] = FFN_KERNELS, **dd: Any):
        super().__init__()
        hidden = int(dim * ratio)
        self.kernels = tuple(kernels)
        self.fc1 = nn.Sequential(PointwiseConv(dim, hidden, bias=False, **dd), nn.GELU(), nn.BatchNorm2d(hidden, **dd))
        self.dwconv: Any = MultiScaleDWConv(hidden, kernels, **dd) if kernels else nn.Identity()
        self.norm = nn.BatchNorm2d(hidden, **dd) if kernels else nn.Identity()
        self.fc2 = nn.Sequential(PointwiseConv(hidden, dim, bias=False, **dd), nn.BatchNorm2d(dim, **dd))
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor, scale: LayerScale | None = None) -> Tensor:
        """(B, C, H, W) to (B, C, H, W), scaled by ``scale``."""
        joins = may_join(x, self.fc2, scale, self.drop)
        if self._fuses(x):
            widen, _, entry = self.fc1
            x = depthwise_block(widen(x), self.dwconv.proj, self.norm, self.fc2[0], entry=entry, identity=True)
            done = 1
        else:
            x, done = self.drop(self.norm(self.dwconv(self.fc1(x)))), 0
        x = run_rest(self.fc2, x, done, joins)
        if scale is not None and joins:
            return scale.after(self.fc2[-1], x)
        x = self.drop(x)
        return x if scale is None else scale(x)

    def _fuses(self, x: Tensor) -> bool:
        """Whether everything between the two 1x1 convolutions may be computed in one with the second, in training."""
        plain = self.kernels == FFN_KERNELS and self.training and not observed() and drops_nothing(self.drop)
        plain = plain and is_plain_module(MultiScaleDWConv, self.dwconv)
        plain = plain and is_plain_module(DepthwiseConv, *self.dwconv.proj)
        plain = plain and is_plain_sequence(self.fc1, PointwiseConv, nn.GELU, nn.BatchNorm2d)
        plain = plain and is_plain_sequence(self.fc2, PointwiseConv, nn.BatchNorm2d)
        return plain and fuses(x, (self.fc1[2], self.norm), (self.fc1[0], self.fc2[0]), self.dwconv.proj)
