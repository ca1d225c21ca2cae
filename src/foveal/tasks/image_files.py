"""Image files and texts beside them, read whole or refused with a sentence."""

import io
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
    try:
        content = Path(path).read_bytes()  # at once: a decoder would come back for every few kilobytes
    except FileNotFoundError as error:
        raise BrokenSample(str(path), f"There is no image at {path}: check the path.") from error
    except OSError as error:
        raise _broken(str(path), error) from error
    return decode_rgb(content, str(path), upright)


def decode_rgb(content: bytes, name: str, upright: bool = False) -> Image.Image:
    """The bytes of an image file as RGB; ``name`` is what it is called where it cannot be read. See ``load_rgb``.

    Raises:
        BrokenSample: they are no image that can be read whole.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            seen = ImageOps.exif_transpose(image) if upright else image
            return _eight_bits(seen).convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise _broken(name, error) from error


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
