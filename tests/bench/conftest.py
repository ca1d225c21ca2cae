"""Subjects whose seconds the test decides."""

from dataclasses import dataclass, field
from itertools import cycle

import pytest

from foveal.bench.settings import Setting
from foveal.bench.subjects import Prepared


@dataclass(frozen=True)
class Scripted:
    """A subject that takes the seconds written here, one after the other, by a clock that does not run."""

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
        first = [None]  # the call with which a run begins is not timed

        def call():
            return first.pop() if first else next(taken)

        return Prepared(call, self.held, self.moved)


@pytest.fixture
def scripted():
    return Scripted


def stopwatch(call, repeats):
    """Believes what the call says that it took."""
    return call()


@pytest.fixture(name="stopwatch")
def stopwatch_fixture():
    return stopwatch
