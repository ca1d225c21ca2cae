"""The error budget of numerical comparisons."""

import math

import torch
from torch import Tensor

# Maximum deviation from the authors' models in float32, relative to the largest value.
OUTPUT, GRADIENT = 1e-4, 1e-3


def relative_error(actual: Tensor, exact: Tensor, floor: float = 0.0) -> float:
    """max |difference| / max |exact|; infinite if shapes differ or a value is not finite.

    ``floor`` is the minimum scale, for results that are exactly 0 by cancellation.
    """
    if actual.shape != exact.shape or not actual.isfinite().all():
        return math.inf
    if exact.numel() == 0:
        return 0.0
    difference = (actual.double() - exact.double()).abs().max()
    scale = exact.double().abs().max().clamp_min(max(floor, torch.finfo(torch.float64).tiny))
    return (difference / scale).item()


def rounding(dtype: torch.dtype, reduction: int) -> float:
    """Relative error of ``reduction`` additions in the accumulation dtype and a rounding to ``dtype``."""
    accumulation = torch.promote_types(dtype, torch.float32)
    return torch.finfo(dtype).eps + 4 * math.sqrt(reduction) * torch.finfo(accumulation).eps


def assert_within_budget(
    actual: Tensor, plain: Tensor, exact: Tensor, reduction: int, what: str = "result", floor: float = 0.0
) -> None:
    """Assert that the error against fp64 is at most twice that of plain PyTorch in the same dtype, plus rounding."""
    allowed = 2 * relative_error(plain, exact, floor) + rounding(plain.dtype, reduction)
    error = relative_error(actual, exact, floor)
    assert actual.dtype == plain.dtype, f"{what} is {actual.dtype}, should be {plain.dtype}"
    assert error <= allowed, f"{what}: error {error:.2e}, allowed {allowed:.2e}"


def assert_same(actual: Tensor, expected: Tensor, reduction: int, what: str = "result", floor: float = 0.0) -> None:
    """Assert equality up to the order of ``reduction`` roundings."""
    error, allowed = relative_error(actual, expected, floor), rounding(expected.dtype, reduction)
    assert actual.dtype == expected.dtype, f"{what} is {actual.dtype}, should be {expected.dtype}"
    assert error <= allowed, f"{what}: differs by {error:.2e}, allowed {allowed:.2e}"
