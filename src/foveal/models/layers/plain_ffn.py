"""The feed-forward network of ViT on TransXNet's maps."""

from __future__ import annotations

from timm.models import register_notrace_module
from torch import Tensor, nn

from .channel_mixers import Mlp


@register_notrace_module
class PlainFFN(Mlp):
    """Two linear layers with biases and GELU between them, without BatchNorm (table VI, "vanilla FFN")."""

    def forward(self, x: Tensor, scale: nn.Module | None = None) -> Tensor:
        """(B, C, H, W) to (B, C, H, W), scaled by ``scale``."""
        y = super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return y if scale is None else scale(y)
