"""Where the gradients of aggregated attention stand in memory, whichever implementation computed them."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

TENSORS = (
    "q", "k", "v", "k_pool", "v_pool", "scale", "query_embedding", "local_bias", "pool_bias", "tokens", "token_bias",
)  # fmt: skip
POOL_BIAS = TENSORS.index("pool_bias")
TABLE_TENSORS = (*TENSORS[:POOL_BIAS], "pool_bias_table", *TENSORS[POOL_BIAS + 1 :])


def empty_gradient(name: str, tensor: Tensor) -> Tensor:
    """Memory for the gradient of the input called `name`: contiguous, but for the dense pooled bias (h, N, P), whose
    neighbouring queries stand side by side."""
    if name == TENSORS[POOL_BIAS]:
        return tensor.new_empty(tensor.mT.shape).mT
    return tensor.new_empty(tensor.shape)


def arrange_gradients(
    gradients: Iterable[Tensor], inputs: Iterable[Tensor], names: tuple[str, ...] = TENSORS
) -> tuple[Tensor, ...]:
    """The eleven gradients in the dtypes of their inputs and the layout of `empty_gradient`; copies what differs."""
    cast = [g.to(t.dtype) for g, t in zip(gradients, inputs, strict=True)]
    dense = TENSORS[POOL_BIAS]
    return tuple(g.mT.contiguous().mT if n == dense else g.contiguous() for n, g in zip(names, cast, strict=True))
