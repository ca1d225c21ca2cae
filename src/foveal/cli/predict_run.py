"""What ``foveal predict`` does for every task: pass pictures to a predictor, answers to their writers, and say on
stderr what cannot be read."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from foveal.cli.console import FAILED, Exit, UsageError
from foveal.cli.options import PredictOptions
from foveal.errors import FovealError
from foveal.files import check_writable
from foveal.runtime.predicting import Answer, Predictor, Unread, stream
from foveal.tasks.inputs import Inputs

T = TypeVar("T")
A = TypeVar("A")
FILE_ENDINGS = (".csv", ".json", ".jsonl", ".npy", ".png", ".jpg")


@dataclass(frozen=True)
class Tally:
    """How many pictures were answered, and how many could not be read."""

    answered: int
    unread: int

    def conclude(self) -> None:
        """Report unread pictures, if any, and exit with a code that says so."""
        if self.unread:
            whole = self.answered + self.unread
            print(f"foveal: {self.unread:,} of {whole:,} images could not be read.", file=sys.stderr)
            raise Exit(FAILED)


class Screen:
    """The terminal of a run: answers on stdout, and on stderr a bar below them, if it is a terminal.

    Args:
        title: of the bar.
        total: steps; None if unknown.
        shown: whether there may be a bar.
    """

    def __init__(self, title: str, total: int | None, shown: bool = True) -> None:
        self._console = Console(stderr=True)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self._live = shown and self._console.is_terminal
        self._bar = Progress(
            *columns,
            console=self._console,
            transient=True,
            disable=not self._live,
            redirect_stdout=False,  # which would put answers on stderr, also those for a file
            redirect_stderr=False,
        )
        self._task = self._bar.add_task(title, total=total)

    def __enter__(self) -> "Screen":
        self._bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def step(self) -> None:
        """Advance the bar."""
        self._bar.advance(self._task)

    def say(self, text: str) -> None:
        """Print an answer on stdout. Where stdout is a terminal with the bar, it is printed above the bar."""
        if self._live and sys.stdout.isatty():
            self._above(text)
        else:
            print(printable(text), flush=True)

    def report(self, sentence: str) -> None:
        """Print a sentence on stderr."""
        line = f"foveal: {sentence.rstrip('.')}."
        if self._live:
            self._above(line)
        else:
            print(printable(line), file=sys.stderr)

    def _above(self, text: str) -> None:
        self._console.print(printable(text), soft_wrap=True, markup=False, highlight=False)


def screen_of(title: str, inputs: Inputs, options: PredictOptions) -> Screen:
    """Return the screen of a run; a document on the terminal is not mixed with a bar."""
    return Screen(title, inputs.total, shown=not (options.json and sys.stdout.isatty()))


def check_folder(out: Path | None, what: str) -> None:
    """Raise UsageError or FovealError if ``--out`` cannot be the folder of a detector's or segmenter's pictures."""
    if out is None:
        return
    if out.suffix.lower() in FILE_ENDINGS and not out.is_dir():
        raise UsageError(f"--out is a folder for a {what}, and {out.name} is the name of a file: pass a folder.")
    check_writable(out)


def printable(text: str) -> str:
    """Return the text with question marks for bytes in names of files that are not UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def run(
    inputs: Inputs,
    predictor: Predictor[T, A],
    add: Callable[[Answer[T, A]], Any],
    screen: Screen,
    workers: int,
) -> Tally:
    """Predict on all pictures, and pass each answer to ``add``. Pictures that cannot be read are reported.

    Raises:
        FovealError: none of them can be read, or the network fails.
    """
    for notice in inputs.notices:
        screen.report(notice)
    answered = unread = 0
    for found in stream(inputs.pictures(), predictor, workers):
        if isinstance(found, Unread):
            if len(inputs.paths) == 1 and not answered:
                raise found.error
            screen.report(str(found.error))
            unread += 1
        else:
            add(found)
            answered += 1
        screen.step()
    if not answered:
        raise FovealError(f"None of the {unread:,} images could be read: check the paths.")
    return Tally(answered, unread)
