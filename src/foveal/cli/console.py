"""Conventions of all commands: parsing of arguments, reporting of errors and answers.

Answers go to stdout, everything else to stderr; with ``--json`` stdout holds one JSON document and nothing else.
"""

import contextlib
import functools
import io
import itertools
import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from foveal.cli.help import help_text
from foveal.cli.mistakes import mistake
from foveal.cli.signature import options_of
from foveal.errors import FovealError

DONE, FAILED, MISUSED, STOPPED = 0, 1, 2, 130
HORIZONTAL = re.compile("─{3}|-{4}")  # edges of tyro's boxes, depending on the terminal's encoding

Json = Annotated[bool, tyro.conf.arg(help="Print one JSON document on stdout and nothing else.")]


class UsageError(Exception):
    """Wrong arguments on the command line; the text is one sentence."""


def show_notices(notices: Iterable[str]) -> None:
    """Print sentences that a person should read, and that no answer depends on."""
    for notice in notices:
        print(f"foveal: {notice}", file=sys.stderr)


class Exit(Exception):
    """Exit with this code; everything has been reported."""

    def __init__(self, code: int) -> None:
        self.code = code


def exit_code(run: Callable[[], None]) -> int:
    """Run a command and return its exit code. Errors for the user become one sentence on stderr; any other is a bug and
    keeps its traceback."""
    try:
        run()
    except FovealError as error:
        return _report(str(error), FAILED)
    except UsageError as error:
        return _report(str(error), MISUSED)
    except Exit as leave:
        return leave.code
    except BrokenPipeError:  # the reader has gone, as with `| head`; drop what is still buffered
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt as stop:
        return _report(str(stop) or "Stopped", STOPPED)
    return DONE


def _report(sentence: str, code: int) -> int:
    print(f"foveal: {sentence.rstrip('.')}.", file=sys.stderr)
    return code


def parse(command: Callable[..., None], name: str, words: Sequence[str]) -> Callable[[], None]:
    """Return ``command`` with the words of the command line bound to its parameters, not yet called.

    Raises:
        UsageError: The words do not fit; one sentence instead of tyro's box.
        Exit: Help was requested and has been printed.
    """
    if {"-h", "--help"} & set(words):
        print(help_text(command, name))
        raise Exit(DONE)

    @functools.wraps(command)
    def bind(*args: Any, **kwargs: Any) -> Callable[[], None]:
        return functools.partial(command, *args, **kwargs)

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(bind, prog=name, args=words, config=(tyro.conf.DisallowNone, tyro.conf.FlagCreatePairsOff))
    except SystemExit as leave:
        if not leave.code:
            raise
        sentence = mistake(words, options_of(command)) or _sentence(said.getvalue())
        raise UsageError(f"{sentence}: see `{name} --help`.") from None


def _sentence(box: str) -> str:
    """Return the message in a box of tyro, between its first two horizontal lines, as one line."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()
    below_frame = itertools.dropwhile(lambda line: not HORIZONTAL.search(line), plain)
    message = itertools.takewhile(
        lambda line: not HORIZONTAL.search(line) and "Got errors:" not in line, list(below_frame)[1:]
    )
    text = " ".join(" ".join(line.strip("│| ") for line in message).split()).rstrip(".")
    return text.replace("Unrecognized options:", "Too many words:")


def print_json(document: Any) -> None:
    """Print the answer of a command with ``--json``: one document on stdout."""
    print(json.dumps(document, indent=2))


def say(sentence: str) -> None:
    """Print a sentence in lines as wide as the terminal. Words stay whole, and so do paths, however long."""
    width = shutil.get_terminal_size().columns
    print(textwrap.fill(sentence, width, break_long_words=False, break_on_hyphens=False))


def columns(texts: Sequence[str], numbers: Sequence[str], gap: int = 1) -> Table:
    """Return an empty table without lines: columns of text, then columns of numbers, ``gap`` spaces apart."""
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0))
    for heading in texts:
        table.add_column(heading, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


@contextlib.contextmanager
def progress(title: str, shown: bool = True) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr and yield its update, called with ``(done, total)``; nothing in a file or pipe."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def steps(title: str) -> Iterator[Callable[[str], None]]:
    """Show on stderr what is done at the moment, and yield its update, called with words; nothing in a file or pipe."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as line:
        task = line.add_task(title, total=None)
        yield lambda step: line.update(task, description=f"{title}: {step}")
