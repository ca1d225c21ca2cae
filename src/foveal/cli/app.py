"""``foveal COMMAND``: from the words on the command line to a command's ``main``."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from foveal.cli.console import Exit, UsageError, exit_code, parse
from foveal.near import did_you_mean
from foveal.version import __version__
from foveal_commands import COMMANDS, overview


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code.

    0: done. 1: an error that the user can fix. 2: wrong usage. 130: stopped by Ctrl-C.
    """
    words = sys.argv[1:] if words is None else list(words)
    sys.exit(exit_code(lambda: _run(words)))


def _run(words: Sequence[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        if not words:
            raise Exit(2)
        return
    if words[0] == "--version":
        print(f"foveal {__version__}")
        return
    name, *arguments = words
    if name not in COMMANDS:
        raise UsageError(_unknown(name))
    command = import_module(COMMANDS[name][0]).main
    parse(command, f"foveal {name}", arguments)()


def _unknown(name: str) -> str:
    return f"There is no command {name!r}{did_you_mean(name, COMMANDS, most=1)}: `foveal --help` shows all of them."
