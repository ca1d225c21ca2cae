"""What the ctypes sides of the operators share: maps as the kernels see them, and why a call cannot be theirs."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

import torch
from torch import Tensor

from . import why_unavailable


class Map(ctypes.Structure):
    """`Map` of native.h."""

    _fields_ = [("data", ctypes.c_void_p)] + [(n, ctypes.c_int64) for n in ("batch", "row", "column", "head")]


def map_of(x: Tensor) -> Map:
    """A map (B, H, W, h, d) or (B, H, W, C), whose last dimension must be contiguous."""
    return Map(x.data_ptr(), *x.stride()[:-1])


def side_by_side(x: Tensor) -> Tensor:
    """x with its last dimension contiguous."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def contiguous_float(x: Tensor) -> Tensor:
    """x in float32, contiguous."""
    return x.float().contiguous()


def unsupported_maps(parameters: Iterable[Tensor], /, **maps: Tensor) -> str | None:
    """Why the compiled kernels cannot take these activations, or None: a device or dtype, or no kernels at all.

    Parameters may have any dtype: they are converted.
    """
    tensors = maps.values()
    devices = {t.device.type for t in (*tensors, *parameters)} - {"cpu"}
    if devices:
        return f"tensors on {devices.pop()}"
    dtypes = {t.dtype for t in tensors}
    if dtypes not in ({torch.float32}, {torch.bfloat16}):
        found = ", ".join(sorted(str(d).removeprefix("torch.") for d in dtypes))
        *names, last = maps
        if not names:
            return f"{last} must be float32 or bfloat16, not {found}"
        return f"{', '.join(names)} and {last} must all be float32 or all bfloat16, not {found}"
    return why_unavailable()
