"""Random scenes: a photograph with a few textured shapes on it."""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from foveal.tasks.dense.shapes.textures import distinct_texture, random_crop

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


MOST_OBJECTS = 5
EMPTY = 0.025  # share of pictures without an object
VISIBLE = 0.6  # of every object at least so much can be seen
SMALLEST, LARGEST = 1 / 6, 1 / 2  # of an object, in short sides of the picture
ATTEMPTS = 12  # to find a place for an object, before there is one less


@dataclass
class Scene:
    """A picture (H, W, 3) uint8 and its objects.

    Attributes:
        owner: (H, W), the number of the object that is seen at a pixel, -1 for the background.
        labels: of each object, an index into ``CLASSES``.
        sizes: of each object, its pixels were it alone.
    """

    image: np.ndarray
    owner: np.ndarray
    labels: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    @property
    def classes(self) -> np.ndarray:
        """(H, W) uint8: 0 for the background, else 1 + the label of what is seen."""
        return np.array([0, *(1 + label for label in self.labels)], dtype=np.uint8)[self.owner + 1]

    def masks(self) -> list[np.ndarray]:
        """Of each object (H, W) bool, the part of it that is seen."""
        return [self.owner == number for number in range(len(self.labels))]


def random_scene(draw: np.random.Generator, split: str, height: int, width: int) -> Scene:
    """A picture with up to five objects, later ones in front of earlier ones."""
    background = random_crop(draw, split, height, width)
    scene = Scene(background, np.full((height, width), -1))
    wanted = 0 if draw.random() < EMPTY else draw.integers(1, MOST_OBJECTS + 1)
    for _ in range(wanted):
        _place_one(draw, split, scene)
    return scene


def _place_one(draw: np.random.Generator, split: str, scene: Scene) -> None:
    """Add an object where it is seen well and leaves the others to be seen, if such a place is found."""
    height, width = scene.owner.shape
    short = min(height, width)
    label = int(draw.integers(len(CLASSES)))
    inside = random_outline(draw, label, short * np.exp(draw.uniform(np.log(SMALLEST), np.log(LARGEST))))
    size = int((inside >= 0.5).sum())
    for _ in range(ATTEMPTS):
        top, left = (int(draw.integers(-len(inside) // 4, end - 3 * len(inside) // 4)) for end in (height, width))
        rows, columns = _overlap(top, len(inside), height), _overlap(left, len(inside), width)
        cover = inside[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        owner = scene.owner.copy()
        owner[rows, columns][cover >= 0.5] = len(scene.labels)
        if _all_visible(owner, [*scene.sizes, size]):
            piece = scene.image[rows, columns]
            texture = distinct_texture(draw, split, piece)
            piece[:] = np.round(piece + (texture - piece) * cover[..., None])
            scene.owner = owner
            scene.labels.append(label)
            scene.sizes.append(size)
            return


def _overlap(start: int, length: int, end: int) -> slice:
    return slice(max(start, 0), min(start + length, end))


def _all_visible(owner: np.ndarray, sizes: list[int]) -> bool:
    seen = np.bincount(owner.ravel() + 1, minlength=len(sizes) + 1)[1:]
    return bool((seen >= VISIBLE * np.array(sizes)).all())
