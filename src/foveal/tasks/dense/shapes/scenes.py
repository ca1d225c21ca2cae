"""Random scenes: a photograph with a few textured shapes on it."""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from foveal.tasks.dense.shapes.textures import distinct_texture, random_crop

MOST_OBJECTS = 5
EMPTY = 0.025  # share of pictures without an object
VISIBLE = 0.6  # smallest visible share of each object
SMALLEST, LARGEST = 1 / 6, 1 / 2  # size of an object, relative to the picture's short side
ATTEMPTS = 12  # to find a place for an object before it is dropped

CLASSES = ("circle", "rectangle", "triangle", "star", "ring")
SUPERSAMPLING = 4
LEAN = 20  # degrees; largest rotation either way: with more, a small network takes minutes longer to train
UPRIGHT = {"triangle": (90,), "star": (180,), "rectangle": (0, 90)}  # degrees that turn the outlines below upright


def random_outline(rng: np.random.Generator, label: int, diameter: float) -> np.ndarray:
    """Draw a shape of class ``label``, slightly rotated and squeezed.

    Args:
        rng: source of randomness.
        label: index into ``CLASSES``.
        diameter: diameter of the circumscribed circle in pixels, before squeezing.

    Returns:
        Coverage of each pixel, (side, side) float32 from 0 to 1; the shape does not touch the border.
    """
    side = int(np.ceil(diameter)) + 2
    canvas = Image.new("L", (side * SUPERSAMPLING, side * SUPERSAMPLING))
    pen = ImageDraw.Draw(canvas)
    transform = _random_transform(rng, CLASSES[label], diameter, side)
    for corners, inside in _polygons(CLASSES[label]):
        pen.polygon(
            [tuple(point) for point in (corners @ transform[:, :2].T + transform[:, 2]).tolist()], fill=255 * inside
        )
    return np.asarray(canvas.reduce(SUPERSAMPLING), dtype=np.float32) / 255


def _random_transform(rng: np.random.Generator, name: str, diameter: float, side: int) -> np.ndarray:
    """Return a random affine map (2, 3) from the unit circle to the supersampled canvas."""
    angle = np.radians(rng.choice(UPRIGHT.get(name, (0,))) + rng.uniform(-LEAN, LEAN))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    squeeze = np.diag([1, rng.uniform(*((0.55, 1) if name == "rectangle" else (0.85, 1)))])
    scale = SUPERSAMPLING * diameter / 2
    return np.column_stack([turn @ squeeze * scale, np.full(2, SUPERSAMPLING * side / 2)])


def _polygons(name: str) -> list[tuple[np.ndarray, bool]]:
    """Return polygons in the unit circle: corners (N, 2), and whether the polygon is filled or cut out."""
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
    """Return (count, 2) points evenly spaced on the unit circle."""
    angles = 2 * np.pi * (np.arange(count) + 0.5) / count
    return np.column_stack([np.cos(angles), np.sin(angles)])


@dataclass
class Scene:
    """A picture (H, W, 3) uint8 and its objects.

    Attributes:
        owner: (H, W), index of the object visible at each pixel, -1 for the background.
        labels: index into ``CLASSES`` of each object.
        sizes: number of pixels of each object without occlusion.
    """

    image: np.ndarray
    owner: np.ndarray
    labels: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    @property
    def classes(self) -> np.ndarray:
        """Label map (H, W) uint8: 0 for the background, otherwise 1 + the visible object's label."""
        return np.array([0, *(1 + label for label in self.labels)], dtype=np.uint8)[self.owner + 1]

    def masks(self) -> list[np.ndarray]:
        """Return the visible part of each object, (H, W) bool."""
        return [self.owner == number for number in range(len(self.labels))]


def random_scene(rng: np.random.Generator, split: str, height: int, width: int) -> Scene:
    """Generate a picture with up to five objects, later ones in front of earlier ones."""
    background = random_crop(rng, split, height, width)
    scene = Scene(background, np.full((height, width), -1))
    wanted = 0 if rng.random() < EMPTY else rng.integers(1, MOST_OBJECTS + 1)
    for _ in range(wanted):
        _add_object(rng, split, scene)
    return scene


def _add_object(rng: np.random.Generator, split: str, scene: Scene) -> None:
    """Add an object at a place where it and all others remain visible, if one is found."""
    height, width = scene.owner.shape
    short = min(height, width)
    label = int(rng.integers(len(CLASSES)))
    inside = random_outline(rng, label, short * np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST))))
    size = int((inside >= 0.5).sum())
    for _ in range(ATTEMPTS):
        top, left = (int(rng.integers(-len(inside) // 4, end - 3 * len(inside) // 4)) for end in (height, width))
        rows, columns = _overlap(top, len(inside), height), _overlap(left, len(inside), width)
        cover = inside[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        owner = scene.owner.copy()
        owner[rows, columns][cover >= 0.5] = len(scene.labels)
        if _all_visible(owner, [*scene.sizes, size]):
            region = scene.image[rows, columns]
            texture = distinct_texture(rng, split, region)
            region[:] = np.round(region + (texture - region) * cover[..., None])
            scene.owner = owner
            scene.labels.append(label)
            scene.sizes.append(size)
            return


def _overlap(start: int, length: int, end: int) -> slice:
    return slice(max(start, 0), min(start + length, end))


def _all_visible(owner: np.ndarray, sizes: list[int]) -> bool:
    seen = np.bincount(owner.ravel() + 1, minlength=len(sizes) + 1)[1:]
    return bool((seen >= VISIBLE * np.array(sizes)).all())
