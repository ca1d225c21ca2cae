"""Image files and texts beside them, read whole or refused with a sentence."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from foveal.errors import FovealError
from foveal.training.samples import BrokenSample


def load_rgb(path: str | Path, upright: bool = False) -> Image.Image:
    """An image file as RGB, whatever its mode was (grey of 8 or 16 bits, palette, with alpha).

    Args:
        upright: turn it as the camera says (EXIF), which is how people see it, and how they mark objects on it.

    Raises:
        FovealError: the file is missing or is no image that can be read whole.
    """
    with opened_image(path) as image:
        return _rgb(image, upright)


def load_rgb_of_size(path: str | Path, size: tuple[int, int]) -> Image.Image:
    """An image file as RGB, to which something of this (width, height) in pixels belongs that was made elsewhere.

    It is turned as its camera says, unless only unturned it has that size: who marked it then saw it unturned.

    Raises:
        BrokenSample: the file is missing, or is no image that can be read whole. One of another size is returned.
    """
    with opened_image(path) as image:
        turned = _rgb(image, upright=True)
        return _rgb(image, upright=False) if turned.size != size and image.size == size else turned


def decode_rgb(content: bytes, name: str) -> Image.Image:
    """The bytes of an image file as RGB; ``name`` is what it is called where it cannot be read. See ``load_rgb``.

    Raises:
        BrokenSample: they are no image that can be read whole.
    """
    with _readable(content, name) as image:
        return _rgb(image, upright=False)


@contextmanager
def opened_image(path: str | Path) -> Iterator[Image.Image]:
    """An image file as Pillow opens it, its pixels not decoded yet.

    Raises:
        BrokenSample: it is missing or no image; or, of what is done with it inside, its pixels cannot be decoded.
    """
    try:
        content = Path(path).read_bytes()  # at once: a decoder would come back for every few kilobytes
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
    """Grey of 16 bits brought to 8, as that of colours is; Pillow's own conversion would make all above 255 white."""
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
    """A text file beside the images, in UTF-8 on every system. Raises FovealError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors of Windows put a mark before the first character
    except (OSError, UnicodeDecodeError) as error:
        raise FovealError(f"{path} cannot be read ({_reason(error)}): replace the file.") from error
