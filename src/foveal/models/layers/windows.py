"""Attention in windows, the part that Swin, MixFormer and ACmix share: windows of any map, and softmax in each."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.models import register_notrace_module
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true

from foveal.types import Size

from ..pyramid import trunc_normal_
from ..sizes import ceil_div


def fill_windows(x: Tensor, window: int) -> Tensor:
    """Add zeros below and to the right of a map (B, H, W, C), up to whole windows."""
    height, width = (ceil_div(side, window) * window for side in x.shape[1:3])
    if all(statically_known_true(filled == side) for filled, side in zip((height, width), x.shape[1:3], strict=True)):
        return x
    # Cut to size, since the remainder of a free side is unknown to an exported program, and whole windows are not.
    return F.pad(x, (0, 0, 0, window - 1, 0, window - 1))[:, :height, :width]


def to_windows(x: Tensor, window: int) -> Tensor:
    """(B, H, W, C), H and W multiples of ``window``, to (B, windows, window^2, C), row by row."""
    return x.unflatten(2, (-1, window)).unflatten(1, (-1, window)).transpose(2, 3).flatten(3, 4).flatten(1, 2)


def from_windows(x: Tensor, window: int, size: Size) -> Tensor:
    """(B, windows, window^2, C) to (B, H, W, C)."""
    x = x.unflatten(2, (window, window)).unflatten(1, (size[0] // window, size[1] // window))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


@register_notrace_module
class WindowSoftmax(nn.Module):
    """Softmax attention in windows with a relative position bias, without projections.

    Liu et al., "Swin Transformer", ICCV 2021. Windows are shifted along the sides that have more than one. Tokens that
    a shift brings together from opposite borders do not attend to each other, nor do tokens of the map attend to those
    beyond it, which fill the last windows.

    Args:
        heads: number of heads.
        window: side of the windows in tokens.
        shift: by which the windows are moved, from 0 to below ``window``.
        attn_drop: dropout of the probabilities.
        position_bias: whether there is a learned bias for each head and offset.
    """

    table: nn.Parameter | None

    def __init__(
        self, heads: int, window: int = 7, shift: int = 0,
        attn_drop: float = 0.0, position_bias: bool = True, **dd: Any,
    ):  # fmt: skip
        super().__init__()
        self.heads, self.window, self.shift, self.attn_drop = heads, window, shift, attn_drop
        self.register_parameter("table", None)
        if position_bias:
            self.table = nn.Parameter(torch.empty(heads, 2 * window - 1, 2 * window - 1, **dd))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the bias."""
        if self.table is not None:
            trunc_normal_(self.table, std=0.02)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, size: Size) -> Tensor:
        """Attend from ``q`` to ``k``, and return the sums of ``v``.

        Args:
            q, k, v: (B, H', W', C), whole windows.
            size: (H, W) of the map inside; what is below and to the right of it fills the last windows.

        Returns:
            (B, H', W', C); of no meaning beyond the map.
        """
        filled = (q.shape[1], q.shape[2])
        shifts = (self.shift if filled[0] > self.window else 0, self.shift if filled[1] > self.window else 0)
        if any(shifts):
            q, k, v = (t.roll((-shifts[0], -shifts[1]), (1, 2)) for t in (q, k, v))
        bias, dropout_p = self._bias(q, size, shifts), self.attn_drop if self.training else 0.0
        # (B, windows, heads, tokens, dim)
        q, k, v = (to_windows(t, self.window).unflatten(-1, (self.heads, -1)).transpose(2, 3) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout_p)
        y = from_windows(y.transpose(2, 3).flatten(3), self.window, filled)
        return y.roll(shifts, (1, 2)) if any(shifts) else y

    def _bias(self, q: Tensor, size: Size, shifts: Size) -> Tensor | None:
        """Return what is added to the scores, for (windows or 1, heads, tokens, tokens), or None."""
        bias = None if self.table is None else self._relative_bias().to(q.dtype)[None]
        filled = (q.shape[1], q.shape[2])
        if filled == size and not any(shifts):
            return bias
        bias = q.new_zeros(()) if bias is None else bias
        together = _together(size, filled, self.window, shifts, q.device)
        return torch.where(together[:, None], bias, float("-inf"))

    def _relative_bias(self) -> Tensor:
        """Return the bias (heads, tokens, tokens) between the tokens of a window."""
        assert self.table is not None
        steps = torch.arange(self.window, device=self.table.device)
        apart = steps[:, None] - steps + self.window - 1
        return self.table[:, apart[:, None, :, None], apart[None, :, None, :]].flatten(3, 4).flatten(1, 2)


def _together(size: Size, filled: Size, window: int, shifts: Size, device: torch.device) -> Tensor:
    """Return which tokens of a window may attend to each other: (windows, tokens, tokens)."""
    wrapped, inside = [], []
    for side, whole, shift in zip(size, filled, shifts, strict=True):
        place = torch.arange(whole, device=device)
        wrapped.append(place >= whole - shift)
        inside.append((place + shift) % whole < side)
    region = 2 * wrapped[0][:, None] + 1 * wrapped[1]
    # Those beyond the map attend among themselves: a softmax over nothing is not a number.
    region = torch.where(inside[0][:, None] & inside[1], region, -1)
    tokens = to_windows(region[None, :, :, None], window)[0, :, :, 0]
    return tokens[:, :, None] == tokens[:, None, :]
