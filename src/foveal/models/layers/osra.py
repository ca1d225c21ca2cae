"""TransXNet's overlapping spatial-reduction attention."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.models import register_notrace_module
from torch import Tensor, nn

from foveal.ops.host import is_plain, needs_gradient

from ..pyramid import PointwiseConv
from .depthwise import ConvNorm, DepthwiseConv, SeparateCells


@register_notrace_module
class OSRA(nn.Module):
    """Overlapping spatial-reduction attention (section III-B2, equation 4).

    ``overlap=False`` reduces the map by cells that do not overlap (NSR in table X).
    """

    def __init__(self, dim: int, heads: int, sr_ratio: int, attn_drop: float = 0.0, overlap: bool = True, **dd: Any):
        super().__init__()
        self.heads = heads
        self.attn_drop = attn_drop
        self.q = PointwiseConv(dim, dim, **dd)
        self.kv = PointwiseConv(dim, 2 * dim, **dd)
        self.sr = nn.Sequential()
        if sr_ratio > 1:
            cells = (
                DepthwiseConv(dim, sr_ratio + 3, sr_ratio, bias=False, **dd)
                if overlap
                else SeparateCells(dim, dim, sr_ratio, groups=dim, **dd)
            )
            self.sr.append(ConvNorm(cells, act=True, **dd))
            self.sr.append(ConvNorm(DepthwiseConv(dim, 1, bias=False, **dd), act=False, **dd))
        self.local_conv = DepthwiseConv(dim, 3, identity=True, **dd)

    def _split_heads(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, heads, H*W, C / heads)."""
        return x.flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(B, C, H, W) and the stage's position bias (1, heads, H*W, keys) to (B, C, H, W)."""
        k, v = self.kv(self.local_conv(self.sr(x))).chunk(2, dim=1)
        q, k, v = self._split_heads(self.q(x)), self._split_heads(k), self._split_heads(v)
        y = _attend(q, k, v, bias, self.attn_drop if self.training else 0.0)
        # Token by token in memory, so that the map comes out channels_last.
        y = y.transpose(1, 2).flatten(2).unflatten(1, (x.shape[2], x.shape[3]))
        return y.permute(0, 3, 1, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, dropout_p: float) -> Tensor:
    """Attention of q to k and v, all (B, heads, positions, dim), with a bias (1, heads, queries, keys)."""
    if needs_gradient(bias) and is_plain(q, k, v) and bias.dtype is q.dtype is torch.float32:
        # PyTorch has no fused attention on a CPU that differentiates the bias, and its general one makes more passes.
        scores = torch.add(bias, q @ k.transpose(2, 3), alpha=q.shape[-1] ** -0.5)
        return F.dropout(scores.softmax(-1), dropout_p) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=_mask(bias, q), dropout_p=dropout_p)


def _mask(bias: Tensor, q: Tensor) -> Tensor:
    """Return the position bias as a mask for ``q``, detached without gradients: PyTorch's fused attention needs it."""
    return (bias if torch.is_grad_enabled() else bias.detach()).to(q.dtype)
