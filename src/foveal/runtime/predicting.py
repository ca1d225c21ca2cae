"""Predictions for any number of pictures, batch by batch: what a predictor does, and the loops that call it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from PIL import Image

from foveal.errors import FovealError
from foveal.image_files import load_rgb
from foveal.runtime.reading import Picture, read_ahead

T = TypeVar("T")
A = TypeVar("A")


class Predictor(Protocol[T, A]):
    """A network, or an exported file, with what its input needs and what its output means.

    Attributes:
        batch_size: pictures per call.
    """

    batch_size: int

    def prepare(self, image: Image.Image) -> T:
        """Return an image in RGB as the network takes it. Called by several threads."""
        ...

    def answer(self, names: Sequence[str], batch: Sequence[T]) -> list[A]:
        """Return the answer for each of the prepared images, whose names are given."""
        ...


@dataclass(frozen=True, eq=False)
class Answer(Generic[T, A]):
    """A picture, the image as it was prepared, and what was predicted."""

    picture: Picture
    prepared: T
    answer: A


@dataclass(frozen=True)
class Unread:
    """A picture that cannot be read, and why."""

    picture: Picture
    error: FovealError


def stream(pictures: Iterable[Picture], predictor: Predictor[T, A], workers: int) -> Iterator[Answer[T, A] | Unread]:
    """Yield an answer for each picture, in order, as soon as its batch is done. A picture that cannot be read is no
    error; memory does not depend on the number of pictures.

    Args:
        workers: threads that read the next batch while the network computes; 0 reads in between.

    Raises:
        FovealError: the network fails.
    """
    batch: list[tuple[Picture, T | FovealError]] = []
    with closing(read_ahead(pictures, predictor.prepare, workers, predictor.batch_size + workers)) as read:
        for item in read:
            batch.append(item)
            if len(batch) == predictor.batch_size:
                yield from _answered(batch, predictor)
                batch = []
    yield from _answered(batch, predictor)


def _answered(
    batch: Sequence[tuple[Picture, T | FovealError]], predictor: Predictor[T, A]
) -> Iterator[Answer[T, A] | Unread]:
    good = [(picture.name, content) for picture, content in batch if not isinstance(content, FovealError)]
    answers = predictor.answer([name for name, _ in good], [content for _, content in good]) if good else []
    found = iter(answers)
    for picture, content in batch:
        if isinstance(content, FovealError):
            yield Unread(picture, content)
        else:
            yield Answer(picture, content, next(found))


def predict_files(
    predictor: Predictor[T, A],
    paths: Sequence[str | Path],
    on_batch: Callable[[int, int], None] | None = None,
    on_image: Callable[[A, T], None] | None = None,
) -> list[A]:
    """Return the answers for image files, in the order given.

    Args:
        on_batch: called with (done, total) after each batch.
        on_image: called with each answer and the image as it was prepared.

    Raises:
        FovealError: a file is missing or not a readable image, or the network fails.
    """
    size = predictor.batch_size
    batches = [paths[start : start + size] for start in range(0, len(paths), size)]
    answers: list[A] = []
    for done, batch in enumerate(batches, start=1):
        prepared = [predictor.prepare(load_rgb(path)) for path in batch]
        found = predictor.answer([str(path) for path in batch], prepared)
        answers += found
        if on_image is not None:
            for answer, image in zip(found, prepared):
                on_image(answer, image)
        if on_batch is not None:
            on_batch(done, len(batches))
    return answers
