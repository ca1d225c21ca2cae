"""Benchmark subjects with scripted timings."""

from dataclasses import dataclass, field
from itertools import cycle

import pytest

from foveal.bench.settings import Setting
from foveal.bench.subjects import Prepared


@dataclass(frozen=True)
class Scripted:
    """A subject that returns the given durations in turn instead of running anything."""

    name: str
    seconds: tuple[float, ...]
    form: str = "eager"
    held: int = 0
    moved: int | None = None
    fails: Exception | None = field(default=None, compare=False)

    def prepare(self, setting: Setting) -> Prepared:
        if self.fails is not None:
            raise self.fails
        taken = cycle(self.seconds)
        first = [None]  # the first call of a run is not timed

        def call():
            return first.pop() if first else next(taken)

        return Prepared(call, self.held, self.moved)


@pytest.fixture
def scripted():
    return Scripted


def stopwatch(call, repeats):
    """Return the duration that the call itself returns."""
    return call()


@pytest.fixture(name="stopwatch")
def stopwatch_fixture():
    return stopwatch
