"""Images read ahead of the network by threads, in order, and only a few at a time.

Threads, not processes: Pillow decodes and resizes without Python's lock, a photograph need not be copied to another
process, and a process with a runtime's threads cannot be forked safely.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from PIL import Image

from foveal.errors import BrokenSample, FovealError
from foveal.image_files import load_rgb

T = TypeVar("T")


@dataclass(frozen=True)
class Picture:
    """An image to predict on: a file, or a frame of a video.

    Attributes:
        name: that its answer has; the path of a file.
        stem: what the names of its output files begin with.
        load: returns its pixels as RGB, upright. Raises FovealError.
    """

    name: str
    stem: str
    load: Callable[[], Image.Image]

    @classmethod
    def of(cls, path: str | Path) -> Picture:
        """Return the picture in an image file."""
        return cls(str(path), Path(path).stem, partial(load_rgb, path))


def read_ahead(
    pictures: Iterable[Picture], prepare: Callable[[Image.Image], T], workers: int, ahead: int
) -> Generator[tuple[Picture, T | FovealError], None, None]:
    """Yield each picture with its prepared pixels, or with the error if it cannot be read, in the order given.

    Args:
        pictures: drawn as they are needed.
        prepare: from an RGB image to what is yielded; runs in the threads.
        workers: threads; 0 reads where it is called.
        ahead: maximum number of pictures that are read in advance of the one that is yielded.
    """

    def read(picture: Picture) -> T | FovealError:
        try:
            return prepare(picture.load())
        except BrokenSample as error:
            return error  # which names the file
        except FovealError as error:
            return FovealError(f"{picture.name}: {error}")

    if not workers:
        yield from ((picture, read(picture)) for picture in pictures)
        return
    waiting: deque[tuple[Picture, Future[T | FovealError]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="reader")
    try:
        for picture in pictures:
            waiting.append((picture, pool.submit(read, picture)))
            if len(waiting) > ahead:
                first, result = waiting.popleft()
                yield first, result.result()
        while waiting:
            first, result = waiting.popleft()
            yield first, result.result()
    finally:
        pool.shutdown(cancel_futures=True)
