"""Which products run in int8: those that are accurate themselves, and leave the network's outputs as they were.

The criteria are those of ``foveal.quantize``. The order in which products stay in floating point is that of their own
errors: to try each alone, as ``foveal.quantize`` does, takes minutes where every try is a file that a runtime opens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .calibration import Calibrated
from .products import Product

TOLERANCE = 0.05  # largest error of a product
COSINE = 0.999  # smallest mean cosine of the outputs
FEWEST_CHANNELS = 32  # fewer do not pay for the rounding of their inputs


def candidates(products: Sequence[Product], found: Calibrated) -> list[str]:
    """Return the nodes that may run in int8, those with the smallest errors first."""
    able = [
        one.node for one in products if min(one.weight.shape) >= FEWEST_CHANNELS and found.errors[one.node] <= TOLERANCE
    ]
    return sorted(able, key=found.errors.__getitem__)


def largest(names: Sequence[str], cosine: Callable[[Sequence[str]], float]) -> list[str]:
    """Return as many of the first names as leave a cosine of at least ``COSINE``; their number is found by bisection.

    Args:
        cosine: the mean cosine of the outputs with these nodes in int8.
    """
    enough, too_many = 0, len(names) + 1
    count = len(names)  # most often, all
    while too_many - enough > 1:
        enough, too_many = (count, too_many) if cosine(names[:count]) >= COSINE else (enough, count)
        count = (enough + too_many) // 2
    return list(names[:enough])
