"""Multi-scale depthwise convolution: specification, checks, and the choice of an implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from ..backend import Implementation, Operator, register
from ..convolution import square_kernels
from . import library, native
from .entry import entered_backward, entered_forward
from .reference import multiscale_dwconv_reference
from .schema import ENTERED, FUSED


def multiscale_dwconv(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor] | None = None,
    *,
    identity: bool = False,
    gelu: bool = False,
    entry: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Depthwise convolution whose channels come in groups, each with its own kernel size: the multi-scale part of
    TransXNet's feed-forward network (section III-C of the paper).

        y = concat over groups g of (DWConv_g(x_g) + bias_g)       + x if `identity`;  GELU(y) if `gelu`

    One group is a plain depthwise convolution.

    Args:
        x: (B, H, W, C), any strides.
        weights: (C_g, 1, K_g, K_g) a group, every K_g odd, the C_g adding up to C; zero padding K_g // 2.
        biases: (C_g,) a group; or None for 0.
        identity: add x.
        entry: (scale, shift), each (C,): take GELU(x) * scale + shift for x, as behind an activation and a BatchNorm in
            eval mode, without writing that map.
        gelu: apply the exact (erf) GELU. Backward computes the convolution again instead of keeping it.

    Returns:
        (B, H, W, C) in the dtype of x. Half types are convolved as PyTorch convolves them, summed in float32. All
        tensors get gradients; a second derivative exists on the backend "reference" only.

    Raises:
        ValueError: shapes that do not fit together, an even kernel, or tensors that are not floating-point or of
            several devices.
        BackendError: the backend asked for with `use_backend` cannot take this call.
    """
    call = _normalise(x, weights, biases, identity=identity, gelu=gelu, entry=entry)
    return OPERATOR.choose(*call).run(*call)


def _normalise(x, weights, biases=None, *, identity=False, gelu=False, entry=None):
    """Check a call, and lay all groups' parameters one behind the other."""
    if x.ndim != 4:
        raise ValueError(f"x must be (B, H, W, C), got {tuple(x.shape)}")
    weights = _listed("weights", "(C_g, 1, K_g, K_g) tensors, one a group of channels", weights)
    if not weights:
        raise ValueError("weights must be those of one group of channels at least, got none")
    for w in weights:
        if w.ndim != 4 or w.shape[0] < 1 or not square_kernels(w, w.shape[0], 1):
            raise ValueError(f"weights must be (C_g, 1, K_g, K_g) with C_g >= 1 and K_g odd, got {tuple(w.shape)}")
    channels = [w.shape[0] for w in weights]
    if sum(channels) != x.shape[-1]:
        raise ValueError(f"weights must together have the {x.shape[-1]} channels of x, got {channels}")
    if biases is None:
        biases = [weights[0].new_zeros(x.shape[-1])]
    else:
        biases = _listed("biases", "(C_g,) tensors, one a group of channels", biases)
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


def _either(plain: Callable, entered: Callable) -> Callable:
    def run(x: Tensor, *rest) -> Tensor:
        *call, entry = rest
        return plain(x, *call) if entry is None else entered(x, *entry, *call)

    return run


def _torch_layers() -> Callable:
    """PyTorch's convolutions: on a CPU with a closed-form backward that keeps x alone; elsewhere as plain layers, which
    torch.compile fuses with what stands beside them."""
    kept = _either(
        FUSED.add("torch", library.forward, library.backward),
        ENTERED.add("torch", entered_forward(library.forward), entered_backward(library.backward)),
    )
    plain = _either(library.forward, entered_forward(library.forward))
    return lambda x, *rest: (kept if x.device.type in ("cpu", "meta") else plain)(x, *rest)


OPERATOR = register(
    Operator(
        "multiscale_dwconv",
        _normalise,
        (
            Implementation(
                "cpu",
                "compiled kernels, one pass",
                _either(
                    FUSED.add("cpu", native.forward, native.backward),
                    ENTERED.add("cpu", native.entered_forward, entered_backward(native.backward)),
                ),
                native.unsupported,
            ),
            Implementation(
                "torch", "a convolution of PyTorch for every group, on any device", _torch_layers(), lambda *call: None
            ),
            Implementation(
                "reference",
                "plain PyTorch",
                _either(multiscale_dwconv_reference, entered_forward(multiscale_dwconv_reference)),
                lambda *call: None,
            ),
        ),
    )
)
