"""The classes of the shapes, each an outline."""

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("circle", "rectangle", "triangle", "star", "ring")
SUPERSAMPLING = 4
LEAN = 20  # degrees to either side that shapes are turned by: any further, and a small network takes minutes longer
UPRIGHT = {"triangle": (90,), "star": (180,), "rectangle": (0, 90)}  # degrees by which outlines as below stand upright


def random_outline(draw: np.random.Generator, label: int, diameter: float) -> np.ndarray:
    """The shape of class ``label``, leaning and a little squeezed.

    Args:
        diameter: of the circle around it in pixels, before it is squeezed.

    Returns:
        How much of each pixel lies inside: (side, side) float32 from 0 to 1; the shape touches no edge.
    """
    side = int(np.ceil(diameter)) + 2
    canvas = Image.new("L", (side * SUPERSAMPLING, side * SUPERSAMPLING))
    pen = ImageDraw.Draw(canvas)
    place = _placement(draw, CLASSES[label], diameter, side)
    for corners, inside in _polygons(CLASSES[label]):
        pen.polygon([tuple(point) for point in (corners @ place[:, :2].T + place[:, 2]).tolist()], fill=255 * inside)
    return np.asarray(canvas.reduce(SUPERSAMPLING), dtype=np.float32) / 255


def _placement(draw: np.random.Generator, name: str, diameter: float, side: int) -> np.ndarray:
    """(2, 3): from the unit circle to the supersampled canvas."""
    angle = np.radians(draw.choice(UPRIGHT.get(name, (0,))) + draw.uniform(-LEAN, LEAN))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    squeeze = np.diag([1, draw.uniform(*((0.55, 1) if name == "rectangle" else (0.85, 1)))])
    scale = SUPERSAMPLING * diameter / 2
    return np.column_stack([turn @ squeeze * scale, np.full(2, SUPERSAMPLING * side / 2)])


def _polygons(name: str) -> list[tuple[np.ndarray, bool]]:
    """Corners (N, 2) in the unit circle, and whether what they enclose is inside or cut out."""
    if name == "circle":
        return [(_corners(48), True)]
    if name == "rectangle":
        return [(_corners(4), True)]
    if name == "triangle":
        return [(_corners(3), True)]
    if name == "star":
        return [(_corners(10) * np.where(np.arange(10) % 2, 0.45, 1)[:, None], True)]
    return [(_corners(48), True), (_corners(48) * 0.55, False)]


def _corners(count: int) -> np.ndarray:
    """(count, 2): evenly on the unit circle."""
    angles = 2 * np.pi * (np.arange(count) + 0.5) / count
    return np.column_stack([np.cos(angles), np.sin(angles)])
