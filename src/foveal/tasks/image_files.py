"""Read image files, and text files beside them, whole or with an error of one sentence."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from foveal.errors import FovealError
from foveal.training.samples import BrokenSample


def load_rgb(path: str | Path, upright: bool = False) -> Image.Image:
    """Return an image file as RGB, from any mode (grey of 8 or 16 bits, palette, alpha).

    Args:
        upright: rotate it as its EXIF orientation says, as people see it and annotate objects on it.

    Raises:
        FovealError: the file is missing or not a readable image.
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
        turned = _rgb(image, upright=True)
        return _rgb(image, upright=False) if turned.size != size and image.size == size else turned


def decode_rgb(content: bytes, name: str) -> Image.Image:
    """Return the bytes of an image file as RGB; errors call it ``name``. See ``load_rgb``.

    Raises:
        BrokenSample: they are not a readable image.
    """
    with _readable(content, name) as image:
        return _rgb(image, upright=False)


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
def _readable(content: bytes, name: str) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(content)) as image:
            yield image
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise _broken(name, error) from error


def _rgb(image: Image.Image, upright: bool) -> Image.Image:
    return _eight_bits(ImageOps.exif_transpose(image) if upright else image).convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Convert 16-bit grey to 8 bits; Pillow's own conversion turns all values above 255 white."""
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


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
