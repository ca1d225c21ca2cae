"""What may stand in front of the convolution: GELU and an affine map of each channel, as BatchNorm is in eval mode.

They cannot be folded into the convolution's weights, since its zero padding comes behind the shift.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def enter(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """GELU(x) * scale + shift of a map (B, H, W, C), in x's dtype."""
    return torch.addcmul(shift.to(x.dtype), F.gelu(x), scale.to(x.dtype))


def entered_forward(forward: Callable) -> Callable:
    """`forward(x, ...)` as a function of (x, scale, shift, ...)."""
    return lambda x, scale, shift, *rest: forward(enter(x, scale, shift), *rest)


def entered_backward(backward: Callable) -> Callable:
    """`backward(grad, x, ...)` as a function of (grad, x, scale, shift, ...) that also gives the gradients of these."""

    def run(grad: Tensor, x: Tensor, scale: Tensor, shift: Tensor, *rest) -> tuple[Tensor, ...]:
        grad, *others = backward(grad, enter(x, scale, shift), *rest)
        grad_scale = (grad * F.gelu(x)).sum((0, 1, 2), dtype=torch.promote_types(scale.dtype, torch.float32))
        grad_shift = grad.sum((0, 1, 2), dtype=torch.promote_types(shift.dtype, torch.float32))
        grad_x = torch.ops.aten.gelu_backward(grad * scale.to(grad.dtype), x)
        return (grad_x.contiguous(), grad_scale.to(scale.dtype), grad_shift.to(shift.dtype), *others)

    return run
