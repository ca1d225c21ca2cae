"""Aggregated attention as PyTorch operators: of a dense position bias, and of a table of its offsets."""

from __future__ import annotations

from torch import Tensor

from ..fused import FusedOperator
from ..numerics import accumulation_dtype
from .layout import TABLE_TENSORS, TENSORS, empty_gradient


def _fake(q: Tensor, *_) -> tuple[Tensor, Tensor]:
    """The output (B, H, W, h, d) and the log-sum-exp (B, H, W, h) of every query."""
    return q.new_empty(q.shape), q.new_empty(q.shape[:-1], dtype=accumulation_dtype(q.dtype))


def _operator(name: str, tensors: tuple[str, ...]) -> FusedOperator:
    return FusedOperator(
        name,
        tensors=tensors,
        constants=("SymInt window", "SymInt length"),
        outputs=2,
        fake=_fake,
        fake_gradient=empty_gradient,
    )


FUSED = _operator("aggregated_attention", TENSORS)
TABLE = _operator("aggregated_attention_table", TABLE_TENSORS)
