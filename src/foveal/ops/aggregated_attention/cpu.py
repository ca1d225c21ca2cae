"""Aggregated attention by the compiled CPU kernels: fills the ``AttentionCall`` of native.h.

``cpu_bias`` describes the position bias to the kernels.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from foveal.types import Size

from ..native import Kernel, Map, contiguous_float, map_of, side_by_side, threads_for, unsupported_maps
from ..numerics import in_dtype
from .cpu_bias import DenseBias, Resize, TableBias
from .schema import TABLE_TENSORS, TENSORS, arrange_gradients

_CPU = torch.device("cpu")
Form = Callable[[Tensor, Size, Size], DenseBias | TableBias]
_LARGEST_WINDOW = 63
_SIZES = ("batch", "height", "width", "heads", "dim", "pooled", "window", "bands", "threads", "half")
_SMALL = ("scale", "query_embedding", "local_bias", "tokens", "token_bias")


class _AttentionCall(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in _SIZES),
        *((name, Map) for name in ("q", "k", "v", "k_pool", "v_pool")),
        *((name, ctypes.c_void_p) for name in (*_SMALL, "pool_bias")),
        *((f"bias_{number}", ctypes.c_int64) for number in ("head", "row", "column", "size")),
        ("bias_keys", ctypes.c_void_p),
        ("resize", Resize),
        ("log_length", ctypes.c_void_p),
        ("out", Map),
        ("lse", ctypes.c_void_p),
        ("workspace", ctypes.c_void_p),
    ]


class _BackwardCall(ctypes.Structure):
    _fields_ = [
        ("forward", _AttentionCall),
        *((name, Map) for name in ("grad", "grad_q", "grad_k", "grad_v")),
        *((name, ctypes.c_void_p) for name in ("grad_k_pool", "grad_v_pool", "grad_pool_bias")),
        *((f"grad_bias_{number}", ctypes.c_int64) for number in ("thread", "head", "row")),
        *((name, ctypes.c_void_p) for name in ("grad_bias_keys", "sums", "workspace")),
    ]


_forward = Kernel("attention_forward", _AttentionCall)
_backward = Kernel("attention_backward", _BackwardCall)


def unsupported(q, k, v, k_pool, v_pool, *rest) -> str | None:
    """Why the compiled kernels cannot serve this call, or None."""
    *parameters, window, _, dropout_p, _ = rest
    if window > _LARGEST_WINDOW:
        return f"windows up to {_LARGEST_WINDOW}"
    if dropout_p > 0:
        return "attention dropout runs only on the reference"
    return unsupported_maps(parameters, q=q, k=k, v=v, k_pool=k_pool, v_pool=v_pool)


@functools.lru_cache(maxsize=64)
def _log_lengths(window: int, length: int) -> Tensor:
    """(k*k + 1,): log(length + n) for n window keys inside the map."""
    logs = [math.log(length + n) if length + n else -math.inf for n in range(window * window + 1)]
    return torch.tensor(logs, dtype=torch.float32, device=_CPU)


def _floats(*shape: int) -> Tensor:
    """Memory for the kernels to write, independent of PyTorch's default dtype and device."""
    return torch.empty(shape, dtype=torch.float32, device=_CPU)


def _bands(items: int, height: int, threads: int) -> int:
    """How many bands the rows of a map are cut into: enough pieces of work for every thread to get an equal share."""
    return min(height, math.ceil(8 * threads / items))


class _Call:
    """The C structure of one call, and the tensors whose memory it points to."""

    def __init__(self, form: Form, q, k, v, k_pool, v_pool, *rest):
        *small, window, length = rest
        scale, query_embedding, local_bias, pool_bias, tokens, token_bias = small
        batch, height, width, heads, dim = q.shape
        maps = [side_by_side(x) for x in (q, k, v, k_pool.flatten(1, 2)[:, None], v_pool.flatten(1, 2)[:, None])]
        small = [contiguous_float(x) for x in (scale, query_embedding, local_bias, tokens, token_bias)]
        bias = self.bias = form(in_dtype(pool_bias, torch.float32), (height, width), tuple(k_pool.shape[1:3]))
        log_length = _log_lengths(window, length)
        self.kept = (*maps, *small, log_length)
        pooled = k_pool.shape[1] * k_pool.shape[2]
        threads = threads_for(q.numel() * (2 * pooled + 3 * window * window))
        self.c = _AttentionCall(
            batch, height, width, heads, dim, pooled, window,
            _bands(batch * heads, height, threads), threads, q.dtype == torch.bfloat16,
            *map(map_of, maps),
            *(x.data_ptr() for x in small),
            bias.numbers.data_ptr(), bias.head, bias.row, bias.column, bias.size, bias.keys.data_ptr(), bias.resize,
            log_length.data_ptr(),
        )  # fmt: skip


def _forward_of(form: Form, q: Tensor, *rest) -> tuple[Tensor, Tensor]:
    """The output (B, H, W, h, d) in q's dtype, and the log-sum-exp (B, H, W, h) in float32."""
    out = q.new_empty(q.shape)
    lse = _floats(*q.shape[:-1])
    if q.numel():
        call = _Call(form, q, *rest)
        call.c.out, call.c.lse = map_of(out), lse.data_ptr()
        _forward(call.c)
    return out, lse


def _backward_of(form: Form, grad: Tensor, q: Tensor, *rest) -> tuple[Tensor, ...]:
    """Gradients of the eleven tensors, each in the dtype of its tensor."""
    *inputs, lse, window, length = rest
    inputs = [q, *inputs]
    names = TENSORS if form is DenseBias else TABLE_TENSORS
    if not q.numel():
        return arrange_gradients(map(torch.zeros_like, inputs), inputs, names)
    call = _Call(form, *inputs, window, length)
    c, area = call.c, window * window
    if form is DenseBias:  # a thread computes one band of all images
        c.bands = _bands(c.heads, c.height, c.threads)
    grad, lse = side_by_side(grad), lse.contiguous()
    c.lse = lse.data_ptr()
    maps = [t.new_empty(t.shape) for t in inputs[:3]]
    pooled = [_floats(c.bands, c.batch, c.heads, c.pooled, c.dim) for _ in range(2)]
    bias = call.bias.gradient(c.threads)
    sums = _floats(c.threads, c.heads, 1 + c.dim + 2 * area + area * c.dim).zero_()
    _backward(
        _BackwardCall(
            c, map_of(grad), *map(map_of, maps), *(t.data_ptr() for t in pooled),
            bias.numbers.data_ptr(), bias.thread, bias.head, bias.row, bias.keys.data_ptr(), sums.data_ptr(),
        )
    )  # fmt: skip

    pooled = [t.sum(0).transpose(1, 2).reshape(rest[2].shape) for t in pooled]
    *small, tokens = sums.sum(0).split((1, c.dim, area, area, area * c.dim), 1)
    scale, embedding, local_bias, token_bias = (part.clone() for part in small)  # no gradient is a view of another
    tokens = tokens.unflatten(1, (area, c.dim)).mT.clone(memory_format=torch.contiguous_format)
    gradients = (*maps, *pooled, scale[:, 0], embedding, local_bias, bias.total(), tokens, token_bias)
    return arrange_gradients(gradients, inputs, names)


forward, backward = functools.partial(_forward_of, DenseBias), functools.partial(_backward_of, DenseBias)


def table_forward(*call) -> tuple[Tensor, Tensor]:
    """``forward`` with a table, and its sizes [H, W, Hp, Wp], or [] for those of the call, as the last argument."""
    return _forward_of(_table(call[-1]), *call[:-1])


def table_backward(*call) -> tuple[Tensor, ...]:
    """``backward`` with a table, and its sizes [H, W, Hp, Wp], or [] for those of the call, as the last argument."""
    return _backward_of(_table(call[-1]), *call[:-1])


def _table(sizes: list[int]) -> Form:
    return functools.partial(TableBias, sizes=((sizes[0], sizes[1]), (sizes[2], sizes[3])) if sizes else None)
