"""The help of a command: what it does and takes, under headings and within the width of the terminal."""

import re
import shutil
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from foveal.cli.headings import grouped
from foveal.cli.signature import REQUIRED, Option, description_of, options_of
from foveal_commands import WIDEST

INDENT, COLUMN = 2, 26  # columns before a flag, and before what it does
UNBROKEN = "\N{NO-BREAK SPACE}"
ALREADY = re.compile(r"by default|default:|the default|as in the recipe|as in training", re.IGNORECASE)


def help_text(command: Callable[..., None], name: str) -> str:
    """Return the help of a command.

    Args:
        command: its ``main``.
        name: as it is typed: "foveal train".
    """
    width = min(shutil.get_terminal_size().columns, WIDEST)
    return "\n".join(_lines(options_of(command), description_of(command), name, width))


def _lines(options: list[Option], description: str, name: str, width: int) -> Iterator[str]:
    by_place = [one for one in options if one.positional]
    by_name = {one.name: one for one in options if not one.positional}
    yield from _wrapped(_usage(name, options), width, "usage: ", "       ")
    for paragraph in description.split("\n\n"):
        yield ""
        yield from _wrapped(paragraph, width)
    explained = [one for one in by_place if one.help]
    if explained:
        yield "\nArguments:"
        for one in explained:
            yield from _entry(one, width)
    for heading, names in grouped(name.split()[-1], by_name).items():
        yield f"\n{heading}:"
        for member in names:
            yield from _entry(by_name[member], width)


def _usage(name: str, options: list[Option]) -> str:
    words = [_bracketed(one) for one in options if one.positional]
    required = [f"{one.flag} {one.metavar}" for one in options if one.is_required and not one.positional]
    return " ".join([name, *words, *required, "[OPTIONS]"])


def _bracketed(one: Option) -> str:
    return one.metavar if one.is_required or one.default is REQUIRED else f"[{one.metavar}]"


def _entry(one: Option, width: int) -> Iterator[str]:
    """Yield the lines of an option: what is typed, and beside or below it what it does."""
    typed = one.metavar if one.positional else f"{one.flag} {one.metavar}".rstrip()
    start = f"{'':{INDENT}}{typed}"
    if len(start) > COLUMN - 2:
        yield start
        start = ""
    yield from _wrapped(one.help + _default(one), width, f"{start:<{COLUMN}}", " " * COLUMN)


def _default(one: Option) -> str:
    """Return a default that says something, unless the help says it already."""
    value = one.default
    if one.is_required:
        return " (required)"
    shown: Any = " ".join(map(str, value)) if isinstance(value, tuple) else value
    if value is REQUIRED or isinstance(value, bool) or shown in (None, "", "none") or ALREADY.search(one.help):
        return ""
    return f" (default:{UNBROKEN}{shown})"


def _wrapped(text: str, width: int, first: str = "", later: str = "") -> list[str]:
    """Return lines of at most ``width`` columns; words are never broken."""
    wrapper = textwrap.TextWrapper(width, first, later, break_long_words=False, break_on_hyphens=False)
    lines = wrapper.wrap(text)
    return [line.replace(UNBROKEN, " ") for line in lines] or [first.rstrip()]
