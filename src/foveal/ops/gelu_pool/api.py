"""GELU and adaptive average pooling: specification, checks, and the choice of an implementation."""

from __future__ import annotations

from torch import Tensor

from ..backend import Implementation, Operator, register
from ..fused import FusedOperator
from ..standard import standard
from . import cpu
from .reference import gelu_pool_reference
from .standard_form import gelu_pool_standard
from .torch_ops import gelu_pool_layers


def gelu_pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """adaptive_avg_pool2d(GELU(x)): "activate and pool" of TransNeXt (equation 5 of the paper).

    Args:
        x: (B, H, W, C), any strides.
        size: (Hp, Wp) of the pooled map, each at least 1. Cell i of Hp covers rows floor(i H / Hp) to
            ceil((i + 1) H / Hp), as in PyTorch.

    Returns:
        (B, Hp, Wp, C) in the dtype of x. GELU is the exact (erf) one. A second derivative exists on the backends
        "torch" and "reference" only.

    Raises:
        ValueError: shapes that do not fit together, a size that is not a pair, or a tensor that is not floating-point.
        BackendError: the backend selected with ``use_backend`` cannot take this call.
    """
    call = _normalise(x, size)
    return OPERATOR.choose(*call).run(*call)


def _normalise(x, size):
    if x.ndim != 4:
        raise ValueError(f"x must be (B, H, W, C), got {tuple(x.shape)}")
    if not isinstance(size, tuple | list) or len(size) != 2 or any(isinstance(n, float | str) for n in size):
        raise ValueError(f"size must be (height, width) of the pooled map, two integers, got {size!r}")
    height, width = size
    if height < 1 or width < 1 or x.shape[1] < 1 or x.shape[2] < 1:
        raise ValueError(f"cannot pool a map of {x.shape[1]} x {x.shape[2]} to {height} x {width}")
    return x, height, width


FUSED = FusedOperator(
    "gelu_pool",
    tensors=("x",),
    constants=("SymInt height", "SymInt width"),
    outputs=1,
    fake=lambda x, height, width: x.new_empty((x.shape[0], height, width, x.shape[3])),
)
OPERATOR = register(
    Operator(
        "gelu_pool",
        _normalise,
        (
            standard(gelu_pool_standard),
            Implementation(
                "cpu",
                "compiled kernels, one pass",
                FUSED.add("cpu", cpu.forward, cpu.backward),
                cpu.unsupported,
            ),
            Implementation("torch", "PyTorch's two layers, any device", gelu_pool_layers, lambda *call: None),
            Implementation("reference", "plain PyTorch", gelu_pool_reference, lambda *call: None),
        ),
    )
)
