"""PVT's attention, from which TransNeXt starts."""

from __future__ import annotations

import torch.nn.functional as F
from timm.models import register_notrace_module
from torch import Tensor, nn

from ..pyramid import Linear
from ..sizes import StageGeometry


@register_notrace_module
class SpatialReductionAttention(nn.Module):
    """Attention of all tokens to a map that a strided convolution and LayerNorm reduce.

    Wang et al., "PVT v2: Improved Baselines with Pyramid Vision Transformer", 2022; in steps 0 to 5 of TransNeXt's
    roadmap.

    Args:
        dim: channels.
        heads: number of heads.
        geometry: of the stage; its ``sr_ratio`` is side and stride of the convolution. 1 reduces nothing.
        attn_drop, proj_drop: dropout of the probabilities and of the output.
        norm_eps: of the LayerNorm.
    """

    def __init__(
        self, dim: int, heads: int, geometry: StageGeometry,
        attn_drop: float = 0.0, proj_drop: float = 0.0, norm_eps: float = 1e-5, device=None, dtype=None,
    ):  # fmt: skip
        super().__init__()
        dd = dict(device=device, dtype=dtype)
        self.heads, self.attn_drop = heads, attn_drop
        self.geometry = geometry  # set by ``set_input_size``, as in the other attentions
        self.q = Linear(dim, dim, **dd)
        self.kv = Linear(dim, 2 * dim, **dd)
        self.sr: nn.Module = nn.Identity()
        self.norm: nn.Module = nn.Identity()
        if geometry.sr_ratio > 1:
            self.sr = nn.Conv2d(dim, dim, geometry.sr_ratio, geometry.sr_ratio, **dd)
            self.norm = nn.LayerNorm(dim, eps=norm_eps, **dd)
        self.proj = Linear(dim, dim, **dd)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        reduced = self.norm(self.sr(self._filled(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        k, v = self.kv(reduced).flatten(1, 2).unflatten(-1, (2, self.heads, -1)).unbind(2)
        q = self.q(x).flatten(1, 2).unflatten(-1, (self.heads, -1))
        dropout_p = self.attn_drop if self.training else 0.0
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p)
        return self.proj_drop(self.proj(y.transpose(1, 2).flatten(2).view_as(x)))

    def _filled(self, x: Tensor) -> Tensor:
        """Add zeros to a map that is smaller than the convolution's side, up to one cell."""
        side = self.geometry.sr_ratio
        if x.shape[1] >= side and x.shape[2] >= side:
            return x
        return F.pad(x, (0, 0, 0, max(side - x.shape[2], 0), 0, max(side - x.shape[1], 0)))
