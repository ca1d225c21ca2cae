"""TransXNet's token mixer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from foveal.ops.batch_norm import depthwise_block, fuses
from foveal.ops.host import observed
from foveal.ops.modules import is_plain_sequence

from ..pyramid import PointwiseConv
from .depthwise import DepthwiseConv
from .layer_scale import LayerScale, may_join, run_rest
from .local_mixers import LOCAL_MIXERS
from .osra import OSRA


class DMixer(nn.Module):
    """Dual dynamic token mixer: IDConv on one half of the channels, OSRA on the other, and the squeezed token enhancer.

    Equations 2 and 5.

    Args:
        dim: channels.
        heads, sr_ratio: of OSRA.
        groups: of IDConv.
        attn_drop, proj_drop: dropout of the probabilities and of the output.
        attention_ratio: share of the channels that OSRA gets (table IX).
        overlap: whether OSRA's cells overlap (table X).
        enhancer: False projects the joined channels by a 1x1 convolution instead of enhancing them (table X).
        local_mixer: what has the place of IDConv, a name in ``LOCAL_MIXERS`` (table VII).
    """

    def __init__(
        self, dim: int, heads: int, sr_ratio: int, groups: int, attn_drop: float, proj_drop: float,
        attention_ratio: float = 0.5, overlap: bool = True, enhancer: bool = True,
        local_mixer: str = "idconv", **dd: Any,
    ):  # fmt: skip
        super().__init__()
        distant = round(dim * attention_ratio)
        if not 0 < distant < dim or distant % heads:
            raise ValueError(
                f"attention_ratio {attention_ratio} gives {distant} of {dim} channels to attention, which {heads} "
                "heads cannot share: choose another ratio or num_heads"
            )
        self.dims, self.enhances = (dim - distant, distant), enhancer
        self.local_unit = LOCAL_MIXERS[local_mixer](dim - distant, groups, heads, **dd)
        self.global_unit = OSRA(distant, heads, sr_ratio, attn_drop, overlap, **dd)
        self.proj_drop = nn.Dropout(proj_drop)
        if not enhancer:
            self.proj: nn.Sequential = nn.Sequential(PointwiseConv(dim, dim, **dd))
            return
        squeezed = max(16, dim // 8)
        self.proj = nn.Sequential(
            DepthwiseConv(dim, 3, gelu=True, **dd),
            nn.Identity(),  # the authors' GELU, which the convolution applies
            nn.BatchNorm2d(dim, **dd),
            PointwiseConv(dim, squeezed, **dd),
            nn.GELU(),
            nn.BatchNorm2d(squeezed, **dd),
            PointwiseConv(squeezed, dim, **dd),
            nn.BatchNorm2d(dim, **dd),
        )

    def forward(self, x: Tensor, bias: Tensor, scale: LayerScale | None = None) -> Tensor:
        """(B, C, H, W) and the stage's position bias to (B, C, H, W), scaled by ``scale``."""
        local, distant = x.split(self.dims, dim=1)
        x = torch.cat([self.local_unit(local), self.global_unit(distant, bias)], dim=1)
        if not self.enhances:
            y = self.proj_drop(self.proj(x))
            return y if scale is None else scale(y)
        y, done, joins = x, 0, may_join(x, self.proj, scale, self.proj_drop)
        if self._fuses(x):
            conv, _, norm, squeeze, *_ = self.proj
            y, done = depthwise_block(x, (conv,), norm, squeeze), 4
        y = run_rest(self.proj, y, done, joins)
        if scale is not None and joins:
            return torch.addcmul(scale.after(self.proj[-1], y), x, scale.weight.view(-1, 1, 1))
        y = self.proj_drop(y) + x
        return y if scale is None else scale(y)

    def _fuses(self, x: Tensor) -> bool:
        """Whether the first four layers of ``proj`` may be computed in one, in training."""
        norm, conv, plain = nn.BatchNorm2d, PointwiseConv, self.training and not observed()
        plain = plain and is_plain_sequence(
            self.proj, DepthwiseConv, nn.Identity, norm, conv, nn.GELU, norm, conv, norm
        )
        return plain and fuses(x, (self.proj[2],), (self.proj[3],), (self.proj[0],))
