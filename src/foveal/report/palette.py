"""Colours for classes: as many as a label map has values, each as far as can be from those before it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

MOST = 256
NEUTRAL = (128, 128, 128)
"""Of what is no class among others: the class called "background", and legends' entry for ignored pixels."""
BACKGROUND = "background"
LEVELS = 18  # of each channel of the colours that are chosen from
LIGHTNESS = 0.48, 0.88  # in OKLab, from and to: darker ones are black on a dark photograph
CHROMA = 0.10, 0.24  # greys are the background's, and neon hides the photograph

# From linear sRGB to the cones' answers, and from their cube roots to OKLab (Ottosson 2020).
CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
# From linear sRGB to what eyes without the red or the green cones see (Machado, Oliveira and Fernandes 2009, table 1).
EYES = (
    np.eye(3),
    np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
)


def class_colours(classes: Sequence[str]) -> np.ndarray:
    """The colour of each class, (C, 3) uint8: a label has the same in all pictures, and a background is grey."""
    colours = palette()[np.arange(len(classes)) % MOST].copy()
    for label, name in enumerate(classes):
        if name == BACKGROUND:
            colours[label] = NEUTRAL
    return colours


@lru_cache(maxsize=1)
def palette() -> np.ndarray:
    """256 colours, (256, 3) uint8, read-only: the first few differ most, so frequent classes should come first.

    Each is, of all candidates, the farthest from its nearest predecessor and from grey. Distances are those in OKLab,
    the mean of what is seen by most eyes and by those blind to red or to green.
    """
    candidates = _candidates()
    seen = _seen(candidates)
    nearest = np.linalg.norm(seen - _seen(np.array([NEUTRAL])), axis=1)
    chosen = []
    for _ in range(MOST):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(seen - seen[chosen[-1]], axis=1))
    colours = candidates[chosen].astype(np.uint8)
    colours.flags.writeable = False
    return colours


def _candidates() -> np.ndarray:
    """Colours of sRGB, (N, 3), that are neither very dark nor very light, neither grey nor neon."""
    levels = np.linspace(0, 255, LEVELS).round()
    colours = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    lightness, a, b = _oklab(_linear(colours)).T
    chroma = np.hypot(a, b)
    return colours[
        (lightness > LIGHTNESS[0]) & (lightness < LIGHTNESS[1]) & (chroma > CHROMA[0]) & (chroma < CHROMA[1])
    ]


def _seen(colours: np.ndarray) -> np.ndarray:
    """Colours (N, 3) as places (N, 9): a place in OKLab for each kind of eyes."""
    linear = _linear(colours)
    return np.concatenate([_oklab((linear @ eyes.T).clip(0, 1)) for eyes in EYES], axis=1)


def _linear(colours: np.ndarray) -> np.ndarray:
    """sRGB from 0 to 255 as shares of light."""
    codes = colours / 255
    return np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)


def _oklab(linear: np.ndarray) -> np.ndarray:
    return np.cbrt(linear @ CONES.T) @ OKLAB.T
