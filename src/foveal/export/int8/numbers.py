"""Numbers as 8-bit integers: inputs as uint8 with a zero point, weights as int8 with a scale per output channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Without VNNI, x86 processors add pairs of products in 16 bits with saturation, where 2 * 255 * 64 still fits. So
# weights have one bit less, and answers are the same on every processor.
LARGEST_WEIGHT = 64
_LEVELS = 255
_SHARES = (1.0, 0.95, 0.9, 0.85, 0.8)  # of a row's largest weight that are tried


@dataclass(frozen=True)
class Affine:
    """uint8 numbers q that mean (q - zero_point) * scale."""

    scale: np.float32
    zero_point: int

    @classmethod
    def of(cls, low: float, high: float) -> Affine:
        """Return the numbers for values from ``low`` to ``high``; 0 is always one of them."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = np.float32((high - low) / _LEVELS) or np.float32(1)
        return cls(scale, int(np.clip(np.rint(-low / scale), 0, _LEVELS)))

    def rounded(self, x: np.ndarray) -> np.ndarray:
        """Return x as these numbers mean it."""
        q = np.clip(np.rint(x / self.scale) + np.float32(self.zero_point), 0, _LEVELS)
        return (q - np.float32(self.zero_point)) * self.scale


def quantized_weight(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a weight (C_out, C_in) as int8, and a scale per row (C_out,), with the smallest squared error of each."""
    largest = np.abs(weight).max(1)
    largest = np.where(largest > 0, largest, np.float32(1))
    best = np.full(len(weight), np.inf)
    integers, scales = np.zeros(weight.shape, np.int8), np.ones(len(weight), np.float32)
    for share in _SHARES:
        scale = (largest * np.float32(share / LARGEST_WEIGHT)).astype(np.float32)
        q = np.clip(np.rint(weight / scale[:, None]), -LARGEST_WEIGHT, LARGEST_WEIGHT)
        error = np.square(q * scale[:, None] - weight).sum(1)
        better = error < best
        best[better], scales[better], integers[better] = error[better], scale[better], q[better].astype(np.int8)
    return integers, scales
