"""Small pictures of each head's similarities, without words, for pages that set the words themselves."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from foveal.explain.attention import AttentionMaps
from foveal.explain.figures.light import AMOUNTS, Canvas
from foveal.explain.figures.similarity import head_scale, paths
from foveal.plotting import matplotlib


@dataclass(frozen=True)
class HeadPanel:
    """Pictures of one head, (H, W, 3) uint8 in the size that the network saw, by path, and the share of the window."""

    paths: dict[str, np.ndarray]
    foveal_share: float


def head_panels(photo: np.ndarray, maps: AttentionMaps) -> list[HeadPanel]:
    """Return the pictures of every head, on the head's own colour scale, with the query marked.

    Args:
        photo: (H, W, 3) uint8, the image of the maps, at any resolution.
        maps: the attention of one query.
    """
    canvas, found = _canvas(photo, maps), paths(maps)
    return [
        HeadPanel(
            {
                name: _marked(canvas.painted(values[head], head_scale(maps, head)), canvas, maps)
                for name, values in found.items()
            },
            float(share),
        )
        for head, share in enumerate(maps.foveal_share)
    ]


def marked_photograph(photo: np.ndarray, maps: AttentionMaps) -> np.ndarray:
    """Return the photograph in the size that the network saw, with the query and its window: (H, W, 3) uint8."""
    resized = Image.fromarray(photo).resize(maps.image_size[::-1], Image.Resampling.BICUBIC)
    return _marked(np.asarray(resized), _canvas(photo, maps), maps)


def colour_scale() -> np.ndarray:
    """Return the colours from low to high, (16, 256, 3) uint8."""
    ramp = matplotlib("cm").ScalarMappable(cmap=AMOUNTS).get_cmap()(np.linspace(0, 1, 256))[:, :3]
    return np.broadcast_to((255 * ramp).round().astype(np.uint8), (16, 256, 3))


def encode(picture: np.ndarray, kind: str = "PNG") -> bytes:
    """Return (H, W, 3) uint8 as the bytes of a PNG or, much smaller for photographs, a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format=kind, optimize=True, quality=88)
    return buffer.getvalue()


def _canvas(photo: np.ndarray, maps: AttentionMaps) -> Canvas:
    return Canvas(photo, maps.size, maps.stride, maps.image_size)


def _marked(picture: np.ndarray, canvas: Canvas, maps: AttentionMaps) -> np.ndarray:
    """Draw the query as a dot at its token's centre and its window as a frame, white with dark edges."""
    stroke = max(1, round(min(maps.image_size) / 160))
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    if maps.window > 1:
        left, top, right, bottom = canvas.box(maps.query, maps.window)
        pen.rectangle((left, top, right - 1, bottom - 1), outline="black", width=2 * stroke)
        pen.rectangle((left, top, right - 1, bottom - 1), outline="white", width=stroke)
    down, across = (maps.stride * at for at in maps.query)
    pen.ellipse(
        (across - 2 * stroke, down - 2 * stroke, across + 2 * stroke, down + 2 * stroke), fill="white", outline="black"
    )
    return np.asarray(image)
