"""Habits that all commands share: how arguments are read, how errors and answers are said.

Answers go to stdout, everything else to stderr; with ``--json`` stdout holds one JSON document and nothing more.
"""

import contextlib
import functools
import io
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from foveal.errors import FovealError

DONE, FAILED, MISUSED, STOPPED = 0, 1, 2, 130
HORIZONTAL = re.compile("─{3}|-{4}")  # what tyro draws boxes with, by the terminal's encoding

Json = Annotated[bool, tyro.conf.arg(help="Print one JSON document on stdout and nothing else.")]


class UsageError(Exception):
    """The words on the command line do not fit; the text is one sentence."""


class Exit(Exception):
    """Leave with this exit code; everything has been said."""

    def __init__(self, code: int) -> None:
        self.code = code


def exit_code(run: Callable[[], None]) -> int:
    """Run a command; errors meant for a person become one sentence on stderr, any other keeps its traceback: it is a
    bug."""
    try:
        run()
    except FovealError as error:
        return _say(str(error), FAILED)
    except UsageError as error:
        return _say(str(error), MISUSED)
    except Exit as leave:
        return leave.code
    except BrokenPipeError:  # nobody reads the answer any more, as behind `| head`, nor what is still buffered
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt as stop:
        return _say(str(stop) or "Stopped", STOPPED)
    return DONE


def _say(sentence: str, code: int) -> int:
    print(f"foveal: {sentence.rstrip('.')}.", file=sys.stderr)
    return code


def parse(command: Callable[..., None], name: str, words: Sequence[str]) -> Callable[[], None]:
    """``command`` with the typed words bound to its parameters, not yet called.

    Raises:
        UsageError: the words do not fit; one sentence instead of tyro's box.
        SystemExit: help was asked for, and has been printed.
    """

    @functools.wraps(command)
    def bind(*args: Any, **kwargs: Any) -> Callable[[], None]:
        return functools.partial(command, *args, **kwargs)

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(bind, prog=name, args=words, config=(tyro.conf.DisallowNone, tyro.conf.FlagCreatePairsOff))
    except SystemExit as leave:
        if leave.code:
            raise UsageError(f"{_sentence(said.getvalue())}: see `{name} --help`.") from None
        raise


def _sentence(box: str) -> str:
    """The message in a box of tyro's: what stands between its first two horizontal lines, on one line of its own."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()
    below_frame = itertools.dropwhile(lambda line: not HORIZONTAL.search(line), plain)
    message = itertools.takewhile(
        lambda line: not HORIZONTAL.search(line) and "Got errors:" not in line, list(below_frame)[1:]
    )
    return " ".join(" ".join(line.strip("│| ") for line in message).split()).rstrip(".")


def print_json(document: Any) -> None:
    """The answer of a command with ``--json``: one document on stdout."""
    print(json.dumps(document, indent=2))


@contextlib.contextmanager
def progress(title: str, shown: bool = True) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, given ``(done, total)``; in a file or pipe, nothing."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
