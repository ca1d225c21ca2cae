"""Label maps: image files that store the class of each pixel as a number or a colour."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from foveal.errors import BrokenSample
from foveal.image_files import opened_image
from foveal.tasks.listing import image_endings
from foveal.tasks.segmentation.data.class_names import INVALID, NUMBERS, Colour, Legend
from foveal.tasks.segmentation.segmenter import IGNORED

# Formats that change pixels, or may: of JPEG 2000, WebP and AVIF the ending does not say.
LOSSY = {"JPEG": "JPEG", "MPO": "JPEG", "JPEG2000": "JPEG 2000", "WEBP": "WebP", "AVIF": "AVIF"}


OPAQUE = 255  # alpha
SIXTEEN_BITS = ("PNG", "PPM")  # formats whose 32-bit mode "I" holds 16 bits
LARGEST_OF_16_BITS = 2**16 - 1  # marks ignored pixels, as 255 does among 8 bits


def label_map_endings() -> frozenset[str]:
    """Return the endings of the formats that can store label maps: those that Pillow reads and that lose nothing."""
    kinds = Image.registered_extensions()
    return frozenset(ending for ending in image_endings() if kinds.get(ending, "MPO") not in LOSSY)


def label_map_size(path: Path) -> tuple[int, int]:
    """Return (width, height) in pixels; only the file's header is decoded.

    Raises:
        BrokenSample: the file is missing or not an image.
    """
    with opened_image(path) as image:
        return image.size


def read_label_map(path: Path, colours: Mapping[Colour, int] | None = None) -> np.ndarray:
    """Return the numbers (H, W) stored in a label map.

    These are grey values of 1, 8, 16 or 32 bits, palette indices, or colours that are all grey, also with an opaque
    alpha channel. The largest number of 16 bits becomes ``IGNORED``.

    Args:
        path: the file.
        colours: the number of each colour; None if numbers are stored.

    Raises:
        BrokenSample: the file is missing, cannot be read, or does not store a number or colour for each pixel.
    """
    with opened_image(path) as image:
        if image.format in LOSSY or image.info.get("compression") == "jpeg":  # as in some TIFF files
            kind = LOSSY.get(image.format or "", "JPEG")
            raise BrokenSample(
                str(path),
                f"{path} is stored as {kind}, which may change pixels: save label maps as PNG, from their source.",
                "format that may change pixels",
            )
        if colours is not None:
            return _numbers_of(np.asarray(image.convert("RGB")), colours, path)
        numbers = _stored_numbers(image)
        if numbers is None:
            raise BrokenSample(str(path), f"{path} {_no_numbers(image)}", "no number for each pixel")
        return numbers


def _stored_numbers(image: Image.Image) -> np.ndarray | None:
    """Return the numbers (H, W) in an image, or None if it has none whose meaning is clear.

    Grey of 2 or 4 bits has none: Pillow stretches it to 8 bits, and not every writer does. GIF's palette indices are
    none either, since its writers reorder the colours.
    """
    layout = _layout(image)
    if image.format == "GIF" or layout == "RGB":
        return _greys(image)
    if layout in ("LA", "RGBA"):
        opaque = image.getchannel("A").getextrema() == (OPAQUE, OPAQUE)
        return _greys(image) if opaque else None
    if layout == "1":
        return np.array(image, dtype=np.uint8)
    if layout in ("L", "P"):
        return np.array(image)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in SIXTEEN_BITS):
        numbers = np.array(image)
        numbers[numbers == LARGEST_OF_16_BITS] = IGNORED
        return numbers
    return np.array(image) if image.mode == "I" else None


def _greys(image: Image.Image) -> np.ndarray | None:
    """Return the grey values (H, W) of an image, or None if it has colours."""
    pixels = np.asarray(image.convert("RGB"))
    return pixels[..., 0] if (pixels == pixels[..., :1]).all() else None


def _no_numbers(image: Image.Image) -> str:
    """Return the end of the sentence about an image without numbers: why, and what to do."""
    named = "or, if colours are the classes, name them in labelmap.txt"
    if image.format == "GIF":
        return (
            "is a GIF with colours, which its writers renumber, so that its numbers are not the classes: save it as "
            f"PNG, from its source; {named}."
        )
    return (
        f"has mode {_layout(image)}, and a label map stores a class number for each pixel: save it as a PNG with 8-bit "
        f"or 16-bit grey, or with a palette whose indices are the classes; {named}."
    )


def _layout(image: Image.Image) -> str:
    """Return the mode, or the pixel layout within the file if that says more: 2-bit and 4-bit grey are L;2 and L;4."""
    tiles = getattr(image, "tile", None)
    layout = tiles[0][3] if tiles else None
    return layout if layout in ("L;2", "L;4") else image.mode


def _numbers_of(pixels: np.ndarray, colours: Mapping[Colour, int], path: Path) -> np.ndarray:
    """Return the number (H, W) uint8 of each pixel (H, W, 3) uint8."""
    codes = pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)
    order = sorted(colours)
    known = np.array([red << 16 | green << 8 | blue for red, green, blue in order])
    places = np.searchsorted(known, codes).clip(max=len(known) - 1)
    other = known[places] != codes
    if other.any():
        y, x = np.argwhere(other)[0]
        raise BrokenSample(
            str(path),
            f"{path} has the colour {','.join(map(str, pixels[y, x]))} at x={x}, y={y}, which labelmap.txt does not "
            "name: add it there, or correct the label map.",
            "colour without a class",
        )
    return np.array([colours[colour] for colour in order], dtype=np.uint8)[places]


def capped(numbers: np.ndarray) -> np.ndarray:
    """Return numbers of any integer type as indices of a ``Legend.table``."""
    # Negative ones, which 32-bit images can hold, become the largest.
    return numbers if numbers.dtype == np.uint8 else np.minimum(numbers.astype(np.uint32), NUMBERS)


def labels_of(numbers: np.ndarray, table: np.ndarray, path: Path, legend: Legend | None = None) -> np.ndarray:
    """Convert a label map's numbers to labels (H, W) int64 with a ``Legend.table``.

    Raises:
        BrokenSample: a number stands for no class; the message names the first one.
    """
    labels: np.ndarray = table[capped(numbers)]
    if labels.min() == INVALID:
        y, x = np.argwhere(labels == INVALID)[0]
        known = np.flatnonzero(table[:IGNORED] != INVALID).tolist()
        allowed = f"0 to {known[-1]}" if known == list(range(len(known))) else ", ".join(map(str, known))
        ignored = f"0 and {IGNORED}" if table[0] == IGNORED else f"{IGNORED}"
        file = Path(legend.source).name if legend is not None else "classes.txt"
        raise BrokenSample(
            str(path),
            f"{path} has the value {numbers[y, x]} at x={x}, y={y}; only {allowed} and {IGNORED} are allowed, with "
            f"{ignored} for ignored pixels: correct the label map, or name every class in {file}.",
            "number without a class",
        )
    return labels
