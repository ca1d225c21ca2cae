"""``foveal COMMAND``: the table of commands, and the way from typed words to a command's ``main``."""

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from foveal.cli.console import Exit, UsageError, exit_code, parse
from foveal.version import __version__

#: Command -> (module with a ``main`` typed for tyro, what it does). A module is imported when its command is called, so
#: that one command does not wait for what another one imports.
COMMANDS = {
    "quickstart": (
        "foveal.cli.quickstart",
        "train, evaluate, predict and explain on real images, in minutes on a laptop",
    ),
    "models": (
        "foveal.cli.models",
        "every model: parameters, multiply-adds, published accuracy, where its weights live",
    ),
    "train": ("foveal.cli.train", "train or fine-tune a model by a recipe"),
    "evaluate": ("foveal.cli.evaluate", "top-1, top-5 and mCE of a classifier, over sets, sizes and modes"),
    "predict": ("foveal.cli.predict", "the most probable classes of image files"),
    "bench": ("foveal.cli.bench", "speed beside timm's peers, in one interleaved run"),
}


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run one command and leave with its exit code.

    0: done. 1: an error that the user can mend. 2: wrong usage. 130: stopped by Ctrl-C.
    """
    words = sys.argv[1:] if words is None else list(words)
    sys.exit(exit_code(lambda: _run(words)))


def _run(words: Sequence[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
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


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {does}" for name, (_, does) in COMMANDS.items()]
    return "\n".join(
        ["usage: foveal COMMAND [OPTIONS]", "", *lines, "", "foveal COMMAND --help tells the options of one."]
    )


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    guess = f", did you mean {near[0]}" if near else ""
    return f"There is no command {name!r}{guess}: `foveal --help` shows all of them."
