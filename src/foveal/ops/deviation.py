"""The error of a result, and the error that rounding may cause: the budget of every check of an operator."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .numerics import accumulation_dtype


@dataclass(frozen=True)
class Deviation:
    """The difference of one tensor from the formula, and what rounding allows, relative to the largest value."""

    what: str
    error: float
    allowed: float

    def __str__(self) -> str:
        return f"is off by {self.error:.1e} of the largest value in {self.what}, and rounding allows {self.allowed:.1e}"


def relative_error(found: Tensor, exact: Tensor, floor: float = 0.0) -> float:
    """Return max |difference| / max |exact|, 0 without elements; infinity if shapes differ or a value is not finite.

    ``floor`` is the smallest divisor, for results that are 0 by cancellation.
    """
    if found.shape != exact.shape or not found.isfinite().all():
        return math.inf
    if not exact.numel():
        return 0.0
    scale = exact.abs().max().clamp_min(max(floor, torch.finfo(torch.float64).tiny))
    return ((found.double() - exact).abs().max() / scale).item()


def rounding(dtype: torch.dtype, terms: int) -> float:
    """Return the relative error of a sum of ``terms`` in the accumulation dtype, and of its rounding to ``dtype``."""
    return torch.finfo(dtype).eps + 4 * math.sqrt(terms) * torch.finfo(accumulation_dtype(dtype)).eps
