"""Means over seeds, and whether two differ."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from foveal.errors import FovealError

LEVEL = 0.05
"""Differences with a smaller p-value are called significant."""


@dataclass(frozen=True)
class Sample:
    """What seeds gave.

    Attributes:
        n: the number of values.
        mean: their mean.
        deviation: their standard deviation with n - 1 in the denominator; None of a single value.
    """

    n: int
    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Sample":
        """Return the sample of one value or more."""
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return cls(len(values), statistics.fmean(values), deviation)


def welch(one: Sample, other: Sample) -> float | None:
    """Return the two-sided p-value of Welch's t-test (1947), that both means are equal.

    Returns:
        The p-value; None if there is nothing to test by: a single value, or two samples without any deviation.

    Raises:
        FovealError: SciPy is not installed.
    """
    if one.deviation is None or other.deviation is None or one.deviation == other.deviation == 0:
        return None
    try:
        from scipy.special import stdtr
    except ModuleNotFoundError as error:
        raise FovealError(
            "Significance needs SciPy, which comes with scikit-learn: install it with `pip install 'foveal[train]'`."
        ) from error
    parts = (one.deviation**2 / one.n, other.deviation**2 / other.n)
    t = (one.mean - other.mean) / math.sqrt(sum(parts))
    freedom = sum(parts) ** 2 / sum(part**2 / (sample.n - 1) for part, sample in zip(parts, (one, other), strict=True))
    return float(2 * stdtr(freedom, -abs(t)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's method (1979), in the same order.

    The smallest is multiplied by their number, the next by one less, and so on; none falls below one before it.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = largest
    return corrected
