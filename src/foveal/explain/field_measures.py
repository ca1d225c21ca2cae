"""Numbers that describe an effective receptive field: how large it is, and how blocky. NumPy only.

A field is an (H, W) array of contributions, at least 0, as ``effective_receptive_field`` returns for each layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foveal.errors import FovealError

THRESHOLDS = (0.2, 0.3, 0.5, 0.99)  # shares of the contributions, those of RepLKNet's script
WINDOW = 7  # cells: the side of Swin's windows
_FLOOR = 1e-6  # of the largest cell: smaller contributions are rounding errors of a float32 backward pass


def compressed(field: np.ndarray) -> np.ndarray:
    """Return log10(1 + contribution) over its maximum, between 0 and 1: what RepLKNet shows and measures.

    It depends on the scale of a network: contributions far below 1 stay as they are, larger ones are compressed.
    """
    logarithm = np.log1p(_checked(field))
    return logarithm / logarithm.max()


def decades(field: np.ndarray, depth: float = 4.0) -> np.ndarray:
    """Return log10 of the contribution over its maximum, between ``-depth`` and 0. A constant factor has no effect."""
    field = _checked(field)
    return np.log10(np.maximum(field / field.max(), 10.0**-depth))


def area_ratios(field: np.ndarray, thresholds: Sequence[float] = THRESHOLDS) -> np.ndarray:
    """Return the share of the image's area that holds each share of the contributions, between 0 and 1.

    For a threshold t, it is the area of the smallest square of odd side around the pixel (H // 2, W // 2) with at least
    t of the sum of ``compressed(field)``, divided by H * W. That is RepLKNet's "high-contribution area ratio", computed
    on the logarithm as its script does (erf/analyze_erf.py); only, a side of 1 counts here, the part of a square
    outside the image does not, and what no smaller square holds needs the whole image. Small ratios for small
    thresholds and large ones for 99 % mean a sharp peak on a wide field.

    Args:
        field: (H, W), at least 0.
        thresholds: between 0 and 1.

    Returns:
        (thresholds,) float64.

    Raises:
        FovealError: another shape, or nothing above 0.
    """
    shown = compressed(field)
    height, width = shown.shape
    rows, columns = np.abs(np.arange(height) - height // 2), np.abs(np.arange(width) - width // 2)
    ring = np.maximum(rows[:, None], columns).ravel()  # half the side of the smallest square with the pixel
    within = np.cumsum(np.bincount(ring, shown.ravel()))
    area = np.cumsum(np.bincount(ring))
    shares = within / within[-1]
    return np.array([area[np.argmax(shares >= threshold)] for threshold in thresholds]) / (height * width)


def effective_radius(field: np.ndarray) -> float:
    """Return the distance from pixel (H // 2, W // 2) in pixels, root mean square over the contributions themselves.

    A Gaussian of standard deviation s has sqrt(2) s. A constant factor of the field does not matter.
    """
    field = _checked(field)
    height, width = field.shape
    rows, columns = np.arange(height) - height // 2, np.arange(width) - width // 2
    squared = rows[:, None] ** 2 + columns**2
    return float(np.sqrt((field * squared).sum() / field.sum()))


def blockiness(field: np.ndarray, stride: int, window: int = WINDOW) -> float:
    """Return how much of a field's edges recur with the period of a window grid, between 0 (not at all) and 1.

    Contributions are summed over cells of ``stride`` x ``stride`` pixels, the layer's tokens, which hides the grid of
    its patches. The edges are the absolute differences of neighbouring cells' log10. Along every row and every column
    they are a signal whose power spectrum has what recurs with the window at the frequency 1 / window and its
    harmonics (Wang, Bovik and Evans, "Blind measurement of blocking artifacts in images", 2000). The result is the
    power at these frequencies, in excess of the mean power at the others, as a share of the whole without the constant,
    over all rows and columns. So single edges, smooth fields and noise give about 0, and the grid may be shifted.

    The power at the harmonics is that of the means over all positions with the same remainder modulo the window
    (Parseval); in this form it is exact for signals of any length.

    Args:
        field: (H, W), at least 0. What exceeds whole cells at the lower and right edge is left out.
        stride: pixels per token of the layer along each axis.
        window: tokens per side of a window.

    Raises:
        FovealError: less than two windows fit along an axis, another shape, or nothing above 0.
    """
    field = _checked(field)
    height, width = field.shape[0] // stride, field.shape[1] // stride
    if min(height, width) < 2 * window:
        raise FovealError(
            f"The field has {height} x {width} cells, and two windows of {window} cells must fit: use larger images."
        )
    cells = field[: height * stride, : width * stride].reshape(height, stride, width, stride).sum(axis=(1, 3))
    logarithm = np.log10(np.maximum(cells, _FLOOR * cells.max()))
    shares = [_recurrence(np.abs(np.diff(lines)), window) for lines in (logarithm, logarithm.T)]
    recurring, whole = np.sum(shares, axis=0)
    return float(np.clip(recurring / whole, 0, 1)) if whole > 0 else 0.0


def _recurrence(edges: np.ndarray, window: int) -> tuple[float, float]:
    """Return the power that recurs with the window in excess of the mean of the rest, and the whole, of (lines, n)."""
    edges = edges - edges.mean(axis=1, keepdims=True)
    whole = (edges**2).sum()
    phases = np.arange(edges.shape[1]) % window
    counts = np.bincount(phases, minlength=window)
    sums = np.stack([edges[:, phases == phase].sum(axis=1) for phase in range(window)], axis=1)
    harmonics = (sums**2 / counts).sum()
    frequencies, others = window - 1, edges.shape[1] - window
    return harmonics - (whole - harmonics) * frequencies / others, whole


def _checked(field: np.ndarray) -> np.ndarray:
    field = np.asarray(field, dtype=np.float64)
    if field.ndim != 2 or not np.isfinite(field).all() or (field < 0).any() or not field.any():
        raise FovealError(
            f"A field must be finite, at least 0 and not all 0, of shape (H, W): this one has {field.shape}."
        )
    return field
