"""Read image files, and text files beside them, whole or with an error of one sentence."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from foveal.errors import BrokenSample, FovealError
from foveal.pixels import PixelError, orientation, to_rgb, turn

MOST_BYTES = 32 * 2**20
MOST_PIXELS = 40_000_000
MOST_ASPECT = 20  # of the longer side over the shorter, which is enlarged to the network's input
# Of strangers' images. Headers of these hold the size that is decoded; EPS would start a program. JPEG includes MPO.
SAFE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_WIDTH, _HEIGHT = 256, 257  # tags of TIFF
_UNREADABLE = (OSError, SyntaxError, ValueError, KeyError, EOFError, Image.DecompressionBombError)


class TooLarge(FovealError):
    """An image with too many bytes or pixels."""


def load_rgb(path: str | Path, upright: bool = True) -> Image.Image:
    """Return an image file as RGB, from any mode (see ``to_rgb``).

    Args:
        upright: rotate it as its EXIF orientation says, as people see it; otherwise it is as stored.

    Raises:
        BrokenSample: the file is missing or not a readable image, or the range of its pixels is unknown.
    """
    with opened_image(path) as image:
        return _rgb(image, upright)


def load_rgb_of_size(path: str | Path, size: tuple[int, int]) -> Image.Image:
    """Return an image file as RGB, for annotations that were made on an image of ``size``, (width, height) in pixels.

    It is rotated as its EXIF orientation says, unless it has that size only unrotated: then it was annotated so.

    Raises:
        BrokenSample: the file is missing or not a readable image. One of another size is returned.
    """
    with opened_image(path) as image:
        stored = to_rgb(image)
        turned = turn(stored, orientation(image))
        return stored if turned.size != size and stored.size == size else turned


def image_size(path: str | Path) -> tuple[int, int]:
    """Return (width, height) of an image file as ``load_rgb`` returns it, read from its header.

    Raises:
        BrokenSample: the file is missing or not an image.
    """
    try:
        with Image.open(path) as image:
            # In a PNG, EXIF data may follow the pixels; Pillow decodes the pixels to look for it.
            known = image.format != "PNG" or "exif" in image.info
            sideways = known and orientation(image) in SIDEWAYS
            # Newer versions of Pillow have turned the size of a TIFF already: its tags have that of the stored pixels.
            tags = getattr(image, "tag_v2", None)
            width, height = image.size if tags is None else (tags[_WIDTH], tags[_HEIGHT])
            return (height, width) if sideways else (width, height)
    except _UNREADABLE as error:
        raise _broken(str(path), error) from error


def decode_rgb(content: bytes, name: str, upright: bool = True) -> Image.Image:
    """Return the bytes of an image file as RGB; errors call it ``name``. See ``load_rgb``.

    Raises:
        BrokenSample: they are not a readable image.
    """
    with _readable(content, name) as image:
        return _rgb(image, upright)


def decode_limited(content: bytes, name: str, formats: tuple[str, ...] | None = SAFE_FORMATS) -> Image.Image:
    """Return the bytes of a stranger's image as RGB, upright; errors call it ``name``. See ``load_rgb``.

    Bytes are counted and the size is read from the header before pixels are decoded, so memory is bounded.

    Args:
        formats: Pillow's names of the formats that are read; None for all.

    Raises:
        TooLarge: it has more than 32 MB or 40 megapixels.
        FovealError: it is not a readable image, or too narrow.
    """
    check_bytes(len(content))
    try:
        with _readable(content, name, formats) as image:
            _check_size(*image.size, name)
            return _rgb(image, upright=True)
    except BrokenSample as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            raise TooLarge(f"{name} has far more than 40 megapixels: make it smaller.") from None
        raise


def check_bytes(count: int) -> None:
    """Raise TooLarge for a file of more than 32 MB."""
    if count > MOST_BYTES:
        raise TooLarge("The file has more than 32 MB: make the image smaller, or save it as JPEG.")


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MOST_PIXELS:
        raise TooLarge(f"{name} has {width} x {height} pixels, and the most are 40 megapixels: make it smaller.")
    if max(width, height) > MOST_ASPECT * min(width, height):
        raise FovealError(f"{name} has {width} x {height} pixels, too narrow for a network: crop it.")


@contextmanager
def opened_image(path: str | Path) -> Iterator[Image.Image]:
    """Open an image file with Pillow; its pixels are not decoded yet.

    Raises:
        BrokenSample: it is missing or not an image, or its pixels cannot be decoded inside the block.
    """
    try:
        content = Path(path).read_bytes()  # at once: decoders read a few kilobytes at a time
    except FileNotFoundError as error:
        raise BrokenSample(str(path), f"There is no image at {path}: check the path.") from error
    except OSError as error:
        raise _broken(str(path), error) from error
    with _readable(content, str(path)) as image:
        yield image


@contextmanager
def _readable(content: bytes, name: str, formats: tuple[str, ...] | None = None) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(content), formats=formats) as image:
            yield image
    except PixelError as error:
        raise BrokenSample(name, f"{name} {error}.") from error
    except _UNREADABLE as error:
        raise _broken(name, error) from error


def _rgb(image: Image.Image, upright: bool) -> Image.Image:
    rgb = to_rgb(image)
    return turn(rgb, orientation(image)) if upright else rgb


def _broken(name: str, error: Exception) -> BrokenSample:
    return BrokenSample(name, f"{name} is not a readable image ({_reason(error)}): replace or remove the file.")


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "no known image format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next(iter(str(error).splitlines()), type(error).__name__)


def read_text(path: Path) -> str:
    """Return a UTF-8 text file on every system. Raises FovealError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")  # some Windows editors write a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise FovealError(f"{path} cannot be read ({_reason(error)}): replace the file.") from error
