"""Detected or annotated objects drawn on their image: boxes, masks, names and scores, legible at every size.

Lines and text grow with the picture; small images are enlarged first. A class has one colour in all pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from foveal.report.draw import DARK, draw_sheet, draw_strip, load_font, resized, truncated
from foveal.tasks.detection.predict import DetectedObject
from foveal.tasks.detection.rle import decode_mask

# Each as far as possible from those before it, for normal vision and for red or green blindness, and light enough for
# dark text: the test has the distances.
PALETTE = (
    *("#FFB000", "#38B6FF", "#00D6A0", "#FF6B35", "#FFFF80", "#956AFF", "#D455AA", "#FF2A55"),
    *("#00AA6A", "#6AFFFF", "#95EA40", "#FFD480", "#FF40D4", "#559500", "#0095D4", "#FF80BF"),
)
FILL = 0.42  # opacity of a mask's colour over the photograph
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Comparison:
    """An image, (H, W, 3) uint8, with its annotated and its detected objects, and what is written above each."""

    name: str
    image: np.ndarray
    annotated: Sequence[DetectedObject]
    detected: Sequence[DetectedObject]
    captions: tuple[str, str] = ("annotated", "detected")


@dataclass(frozen=True)
class Pens:
    """Line widths and font size, in pixels, that suit a picture."""

    stroke: int
    halo: int
    """Width of the dark outline around a box, and of the box around a mask, which has its own border."""
    font_size: int

    @classmethod
    def of(cls, height: int, width: int) -> Pens:
        side = (height * width) ** 0.5
        stroke = max(2, round(side / 280))
        return cls(stroke, max(1, round(stroke / 3)), max(13, round(side / 42)))


def class_colour(label: int) -> tuple[int, int, int]:
    """Return the colour of a class, the same in every picture; colours repeat after sixteen."""
    code = PALETTE[label % len(PALETTE)]
    return int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16)


def draw_objects(image: np.ndarray, objects: Sequence[DetectedObject], side: int | None = None) -> np.ndarray:
    """Draw objects on their image: filled and outlined masks, boxes, and one label per object inside the picture.

    Args:
        image: (H, W, 3) uint8.
        objects: boxes and masks in the image's pixels; objects without a score (annotations) show only their name.
        side: longer side of the result; None keeps the image's size, but enlarges small images to 640 pixels.

    Returns:
        (H', W', 3) uint8, of the image's proportions.

    Raises:
        FovealError: there are masks, and faster-coco-eval is not installed.
    """
    picture = resized(image, side)
    height, width = picture.shape[:2]
    pens = Pens.of(height, width)
    placed = [(thing, _scaled(thing.box, width / image.shape[1], height / image.shape[0])) for thing in objects]
    placed.sort(key=lambda pair: -_area(pair[1]))  # small objects over large ones
    for thing, _ in placed:
        if thing.mask is not None:
            _draw_mask(picture, decode_mask(thing.mask), class_colour(thing.label), pens)
    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    for thing, box in placed:
        if thing.mask is None:
            _draw_frame(pen, box, DARK, pens.stroke + 2 * pens.halo, pens.halo)
        _draw_frame(pen, box, class_colour(thing.label), pens.stroke if thing.mask is None else pens.halo)
    _draw_labels(pen, placed, pens, (width, height))
    return np.asarray(canvas)


def draw_comparisons(comparisons: Sequence[Comparison], columns: int = 2, side: int = 420) -> np.ndarray:
    """Draw a sheet of pairs, annotated objects on the left and detected ones on the right: (H, W, 3) uint8.

    Args:
        comparisons: the images with their objects.
        columns: pairs per row.
        side: longer side of each picture, in pixels.
    """
    return draw_sheet([_pair(comparison, side) for comparison in comparisons], columns)


def _pair(comparison: Comparison, side: int) -> Image.Image:
    kinds = zip(comparison.captions, (comparison.annotated, comparison.detected), strict=True)
    pictures = [(caption, draw_objects(comparison.image, objects, side)) for caption, objects in kinds]
    return draw_strip(comparison.name, pictures, side)


def _scaled(box: Box, across: float, down: float) -> Box:
    return box[0] * across, box[1] * down, box[2] * across, box[3] * down


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _draw_mask(picture: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int], pens: Pens) -> None:
    """Tint the pixels of the mask, with an opaque rim and a dark outline."""
    height, width = picture.shape[:2]
    if mask.shape != (height, width):  # smooth borders in an enlarged mask
        grey = Image.fromarray(mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BILINEAR)
        mask = np.asarray(grey) >= 128
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    inside, part = mask[window], picture[window]
    paint = np.array(colour, dtype=np.float32)
    part[inside] = (part[inside] * np.float32(1 - FILL) + np.float32(FILL) * paint).round()
    part[inside & ~_eroded(inside, pens.halo + pens.stroke)] = colour
    part[inside & ~_eroded(inside, pens.halo)] = DARK


def _eroded(mask: np.ndarray, reach: int) -> np.ndarray:
    """Erode the mask by a square of ``reach`` pixels on each side; outside the array there is no mask."""
    padded = np.pad(mask, reach)
    height, width = mask.shape
    down = np.logical_and.reduce([padded[shift : shift + height] for shift in range(2 * reach + 1)])
    return np.logical_and.reduce([down[:, shift : shift + width] for shift in range(2 * reach + 1)])


def _draw_frame(pen: ImageDraw.ImageDraw, box: Box, colour: tuple[int, int, int], width: int, around: int = 0) -> None:
    """Draw the border of a box, ``width`` pixels wide, of which ``around`` lie outside the box."""
    x1, y1, x2, y2 = (round(value) for value in box)
    x2, y2 = max(x1, x2 - 1), max(y1, y2 - 1)  # the last pixels inside the box
    pen.rectangle((x1 - around, y1 - around, x2 + around, y2 + around), outline=colour, width=width)


def _draw_labels(
    pen: ImageDraw.ImageDraw, placed: Sequence[tuple[DetectedObject, Box]], pens: Pens, size: tuple[int, int]
) -> None:
    """Draw the labels over everything else; objects with high scores choose their place first."""
    taken: list[Box] = []
    font = load_font(pens.font_size)
    for thing, box in sorted(placed, key=lambda pair: -(pair[0].score or 0)):
        name = thing.name if thing.score is None else f"{thing.name} {thing.score:.2f}"
        text = truncated(name, font, 0.9 * size[0])
        edge = max(2, pens.font_size // 5)
        extent = round(font.getlength(text)) + 2 * edge, sum(font.getmetrics()) + edge
        place = min(_label_places(box, extent, size), key=lambda at: sum(_overlap(at, other) for other in taken))
        taken.append(place)
        pen.rectangle((place[0], place[1], place[2] - 1, place[3] - 1), fill=class_colour(thing.label), outline=DARK)
        middle = (place[1] + place[3]) / 2
        pen.text((place[0] + edge, middle), text, fill=DARK, font=font, anchor="lm")


def _label_places(box: Box, extent: tuple[int, int], size: tuple[int, int]) -> Iterator[Box]:
    """Yield places for a label, best first, each shifted into the picture: above the box, inside it, below it."""
    x1, y1, x2, y2 = box
    width, height = extent
    for top in (y1 - height, y1, y2, y2 - height):
        for left in (x1, x2 - width):
            x = round(min(max(left, 0), max(0, size[0] - width)))
            y = round(min(max(top, 0), max(0, size[1] - height)))
            yield x, y, x + width, y + height


def _overlap(one: Box, other: Box) -> float:
    """Return the area that two boxes share, in pixels."""
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    return float(np.prod(np.clip(high - low, 0, None)))
