"""Frames of video files as pictures to predict on, read by PyAV, which is optional."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from PIL import Image

from foveal.errors import BrokenSample, FovealError
from foveal.runtime.reading import Picture

ENDINGS = frozenset((".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"))


def is_video(path: str | Path) -> bool:
    """Return whether a file is a video by its name."""
    return Path(path).suffix.lower() in ENDINGS


def check_reader(path: str) -> None:
    """Raise FovealError if PyAV, which would read this video, is not installed."""
    if find_spec("av") is None:
        raise FovealError(f"{path} is a video, which PyAV reads: install it with `pip install 'foveal[video]'`.")


def frame_pictures(path: str, every: int = 1) -> Iterator[Picture]:
    """Yield every ``every``-th frame of a video, named ``path#number`` with numbers from 0.

    If the video cannot be read, or not to its end, the last picture is one that cannot be read.
    """
    stem = Path(path).stem
    try:
        for number, image in read_frames(path, every):
            yield Picture(f"{path}#{number}", f"{stem}_{number:06d}", lambda image=image: image)  # type: ignore[misc]
    except BrokenSample as error:
        yield Picture(path, stem, lambda error=error: _raise(error))  # type: ignore[misc]


def read_frames(path: str, every: int) -> Iterator[tuple[int, Image.Image]]:
    """Yield the number of every ``every``-th frame of a video, from 0, and its pixels in RGB, upright.

    Raises:
        BrokenSample: the file is missing, or cannot be decoded.
    """
    import av

    if not Path(path).is_file():
        raise BrokenSample(path, f"There is no video at {path}: check the path.")
    try:
        with av.open(path) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number % every == 0:
                    # Phones store turned frames. Degrees are counter-clockwise, as Pillow's.
                    yield number, frame.to_image().rotate(frame.rotation, expand=True)
    except (av.FFmpegError, IndexError) as error:  # IndexError: without a video stream
        reason = getattr(error, "strerror", None) or "no frames"
        raise BrokenSample(path, f"{path} is not a readable video ({reason}): replace or remove it.") from error


def _raise(error: FovealError) -> NoReturn:
    raise error
