"""What a D-Mixer may have in the place of IDConv (table VII of the TransXNet paper). Maps are (B, C, H, W)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timm.models import register_notrace_module
from torch import Tensor, nn

from .depthwise import DepthwiseConv
from .dyconv import DyConv
from .dynamic_depthwise import DynamicDepthwiseConv
from .idconv import IDConv
from .window_attention import WindowAttention

_KERNEL = 7  # "The kernel/window sizes of the above methods are set to 7x7 for fair comparisons."


@register_notrace_module
class LocalWindowAttention(WindowAttention):
    """Attention in windows that neither shift nor have a position bias: the locally-grouped attention of Twins."""

    def __init__(self, dim: int, heads: int, **dd: Any):
        super().__init__(dim, heads, _KERNEL, position_bias=False, **dd)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _window(dim: int, groups: int, heads: int, **dd: Any) -> nn.Module:
    if dim % heads:
        raise ValueError(f"local_mixer 'window' has {dim} channels, which {heads} heads cannot share: choose num_heads")
    return LocalWindowAttention(dim, heads, **dd)


#: name -> function of (dim, groups, heads, device, dtype); ``groups`` kernels are mixed where kernels are mixed
LOCAL_MIXERS: dict[str, Callable[..., nn.Module]] = {
    "idconv": lambda dim, groups, heads, **dd: IDConv(dim, groups, **dd),
    "dwconv": lambda dim, groups, heads, **dd: DepthwiseConv(dim, _KERNEL, **dd),
    "window": _window,
    "dyconv": lambda dim, groups, heads, **dd: DyConv(dim, groups, _KERNEL, **dd),
    "d_dwconv": lambda dim, groups, heads, **dd: DynamicDepthwiseConv(dim, _KERNEL, **dd),
}
