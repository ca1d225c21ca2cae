"""Multi-scale depthwise convolution: specification, checks, and the choice of an implementation.

As PyTorch operators, with the parameters of all groups concatenated: the convolution alone, and the convolution after
an entry, GELU and an affine map of each channel (a BatchNorm in eval mode). The entry cannot be folded into the
convolution's weights, because zero padding follows the shift.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backend import Implementation, Operator, register
from ..convolution import square_kernels
from ..fused import FusedOperator
from ..standard import standard
from . import cpu, torch_ops
from .reference import multiscale_dwconv_reference
from .standard_form import multiscale_dwconv_standard


def multiscale_dwconv(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor] | None = None,
    *,
    identity: bool = False,
    gelu: bool = False,
    entry: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Depthwise convolution with a separate kernel size for each group of channels: the multi-scale part of TransXNet's
    feed-forward network (section III-C of the paper).

        y = concat over groups g of (DWConv_g(x_g) + bias_g)       + x if identity;  GELU(y) if gelu

    One group is a plain depthwise convolution.

    Args:
        x: (B, H, W, C), any strides.
        weights: (C_g, 1, K_g, K_g) per group, every K_g odd, the C_g adding up to C; zero padding K_g // 2.
        biases: (C_g,) per group; or None for 0.
        identity: add x.
        gelu: apply the exact (erf) GELU. The fused backends recompute the convolution in backward instead of saving it.
        entry: (scale, shift), each (C,): replace x by GELU(x) * scale + shift, the output of an activation and a
            BatchNorm in eval mode. The compiled kernels do not write that map.

    Returns:
        (B, H, W, C) in the dtype of x. Half types are convolved as PyTorch convolves them, summed in float32. All
        tensors get gradients; a second derivative exists on the backend "reference" only.

    Raises:
        ValueError: shapes that do not fit together, an even kernel, or tensors that are not floating-point or not all
            on one device.
        BackendError: the backend selected with ``use_backend`` cannot take this call.
    """
    call = _normalise(x, weights, biases, identity=identity, gelu=gelu, entry=entry)
    return OPERATOR.choose(*call).run(*call)


def _normalise(x, weights, biases=None, *, identity=False, gelu=False, entry=None):
    """Check a call and concatenate the parameters of all groups."""
    if x.ndim != 4:
        raise ValueError(f"x must be (B, H, W, C), got {tuple(x.shape)}")
    weights = _listed("weights", "(C_g, 1, K_g, K_g) tensors, one per group of channels", weights)
    if not weights:
        raise ValueError("weights must hold at least one group of channels, got none")
    for w in weights:
        if w.ndim != 4 or w.shape[0] < 1 or not square_kernels(w, w.shape[0], 1):
            raise ValueError(f"weights must be (C_g, 1, K_g, K_g) with C_g >= 1 and K_g odd, got {tuple(w.shape)}")
    channels = [w.shape[0] for w in weights]
    if sum(channels) != x.shape[-1]:
        raise ValueError(f"weights must together have the {x.shape[-1]} channels of x, got {channels}")
    if biases is None:
        biases = [weights[0].new_zeros(x.shape[-1])]
    else:
        biases = _listed("biases", "(C_g,) tensors, one per group of channels", biases)
        _check_shapes("biases must have shapes", biases, [(n,) for n in channels])
    if entry is not None:
        entry = tuple(_listed("entry", "two (C,) tensors, a scale and a shift", entry))
        _check_shapes("entry must be a scale and a shift of shapes", entry, [(x.shape[-1],)] * 2)
    weight, bias = _joined([w.flatten() for w in weights]), _joined(biases)
    return x, weight, bias, [w.shape[-1] for w in weights], channels, identity, gelu, entry


def _listed(name: str, of_what: str, given) -> list[Tensor]:
    parts = list(given) if isinstance(given, Iterable) and not isinstance(given, Tensor) else None
    if parts is None or not all(isinstance(part, Tensor) for part in parts):
        wrong = [type(one).__name__ for one in ([given] if parts is None else parts)]
        raise ValueError(
            f"{name} must be a list of {of_what}, got {'a single ' if parts is None else ''}{', '.join(wrong)}"
        )
    return parts


def _check_shapes(what: str, tensors: Sequence[Tensor], shapes: list[tuple]) -> None:
    if [tuple(t.shape) for t in tensors] != shapes:
        found = ", ".join(str(tuple(t.shape)) for t in tensors) or "none"
        raise ValueError(f"{what} {', '.join(map(str, shapes))}, got {found}")


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


_PARAMETERS = ("weight", "bias")  # (sum of C_g * K_g^2,), (C,)
_CONSTANTS = ("SymInt[] kernels", "SymInt[] channels", "bool identity", "bool gelu")
FUSED = FusedOperator(
    "multiscale_dwconv",
    tensors=("x", *_PARAMETERS),
    constants=_CONSTANTS,
    outputs=1,
    fake=lambda x, *_: x.new_empty(x.shape),
)
ENTERED = FusedOperator(
    "multiscale_dwconv_entered",
    tensors=("x", "scale", "shift", *_PARAMETERS),
    constants=_CONSTANTS,
    outputs=1,
    fake=lambda x, *_: x.new_empty(x.shape),
)


def enter(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """GELU(x) * scale + shift of a map (B, H, W, C), in x's dtype."""
    return torch.addcmul(shift.to(x.dtype), F.gelu(x), scale.to(x.dtype))


def entered_forward(forward: Callable) -> Callable:
    """Turn ``forward(x, ...)`` into a function of (x, scale, shift, ...)."""
    return lambda x, scale, shift, *rest: forward(enter(x, scale, shift), *rest)


def entered_backward(backward: Callable) -> Callable:
    """Turn ``backward(grad, x, ...)`` into a function of (grad, x, scale, shift, ...) that also returns the gradients
    of scale and shift."""

    def run(grad: Tensor, x: Tensor, scale: Tensor, shift: Tensor, *rest) -> tuple[Tensor, ...]:
        grad, *others = backward(grad, enter(x, scale, shift), *rest)
        grad_scale = (grad * F.gelu(x)).sum((0, 1, 2), dtype=torch.promote_types(scale.dtype, torch.float32))
        grad_shift = grad.sum((0, 1, 2), dtype=torch.promote_types(shift.dtype, torch.float32))
        grad_x = torch.ops.aten.gelu_backward(grad * scale.to(grad.dtype), x)
        return (grad_x.contiguous(), grad_scale.to(scale.dtype), grad_shift.to(shift.dtype), *others)

    return run


def _either(plain: Callable, entered: Callable) -> Callable:
    def run(x: Tensor, *rest) -> Tensor:
        *call, entry = rest
        return plain(x, *call) if entry is None else entered(x, *entry, *call)

    return run


def _torch_layers() -> Callable:
    """PyTorch's convolutions: on a CPU with a closed-form backward that saves x alone; elsewhere as plain layers, which
    torch.compile fuses with their neighbours."""
    closed_form = _either(
        FUSED.add("torch", torch_ops.forward, torch_ops.backward),
        ENTERED.add("torch", entered_forward(torch_ops.forward), entered_backward(torch_ops.backward)),
    )
    plain = _either(torch_ops.forward, entered_forward(torch_ops.forward))
    return lambda x, *rest: (closed_form if x.device.type in ("cpu", "meta") else plain)(x, *rest)


OPERATOR = register(
    Operator(
        "multiscale_dwconv",
        _normalise,
        (
            standard(multiscale_dwconv_standard),
            Implementation(
                "cpu",
                "compiled kernels, one pass",
                _either(
                    FUSED.add("cpu", cpu.forward, cpu.backward),
                    ENTERED.add("cpu", cpu.entered_forward, entered_backward(cpu.backward)),
                ),
                cpu.unsupported,
            ),
            Implementation("torch", "a PyTorch convolution per group, any device", _torch_layers(), lambda *call: None),
            Implementation(
                "reference",
                "plain PyTorch",
                _either(multiscale_dwconv_reference, entered_forward(multiscale_dwconv_reference)),
                lambda *call: None,
            ),
        ),
    )
)
