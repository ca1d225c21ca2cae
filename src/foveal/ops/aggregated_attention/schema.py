"""Aggregated attention as PyTorch operators: one takes a dense position bias; the other takes a table of offsets, and
the sizes [H, W, Hp, Wp] that the table belongs to if they are not those of the call. And the memory layout of their
gradients, whichever implementation computed them.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from ..fused import FusedOperator
from ..numerics import accumulation_dtype, in_dtype

TENSORS = (
    "q", "k", "v", "k_pool", "v_pool", "scale", "query_embedding", "local_bias", "pool_bias", "tokens", "token_bias",
)  # fmt: skip
POOL_BIAS = TENSORS.index("pool_bias")
TABLE_TENSORS = (*TENSORS[:POOL_BIAS], "pool_bias_table", *TENSORS[POOL_BIAS + 1 :])


def _empty_gradient(name: str, tensor: Tensor) -> Tensor:
    """Memory for the gradient of the input called ``name``: contiguous, except that the dense pooled bias (h, N, P) has
    neighbouring queries next to each other."""
    if name == TENSORS[POOL_BIAS]:
        return tensor.new_empty(tensor.mT.shape).mT
    return tensor.new_empty(tensor.shape)


def arrange_gradients(
    gradients: Iterable[Tensor], inputs: Iterable[Tensor], names: tuple[str, ...] = TENSORS
) -> tuple[Tensor, ...]:
    """Return the gradients in the dtypes of their inputs and the layout that tracing expects; copies what differs."""
    cast = [in_dtype(g, t.dtype) for g, t in zip(gradients, inputs, strict=True)]
    dense = TENSORS[POOL_BIAS]
    return tuple(g.mT.contiguous().mT if n == dense else g.contiguous() for n, g in zip(names, cast, strict=True))


def _fake(q: Tensor, *_) -> tuple[Tensor, Tensor]:
    """The output (B, H, W, h, d) and the log-sum-exp (B, H, W, h) of every query."""
    return q.new_empty(q.shape), q.new_empty(q.shape[:-1], dtype=accumulation_dtype(q.dtype))


def _operator(name: str, tensors: tuple[str, ...], *more: str) -> FusedOperator:
    return FusedOperator(
        name,
        tensors=tensors,
        constants=("SymInt window", "SymInt length", *more),
        outputs=2,
        fake=_fake,
        fake_gradient=_empty_gradient,
    )


FUSED = _operator("aggregated_attention", TENSORS)
TABLE = _operator("aggregated_attention_table", TABLE_TENSORS, "SymInt[] table_sizes")
