"""The table of commands. It is outside the package, so that it is shown without waiting for PyTorch."""

import shutil
import sys
import textwrap

WIDEST = 100  # columns of help: longer lines are hard to read
_started = False

#: Command -> (module with a ``main`` typed for tyro, summary). A module is imported when its command is called, so that
#: no command waits for the imports of another.
COMMANDS = {
    "quickstart": (
        "foveal.cli.commands.quickstart",
        "train, evaluate, predict and explain on real images, in minutes on a laptop",
    ),
    "models": (
        "foveal.cli.commands.models",
        "every model: parameters, multiply-adds, published accuracy, where to download its weights",
    ),
    "tables": ("foveal.cli.commands.tables", "the results tables of both papers, with sizes and costs counted again"),
    "train": ("foveal.cli.commands.train", "train or fine-tune a model by a recipe"),
    "ablate": ("foveal.cli.commands.ablate", "run an ablation of a paper: every row of a table with several seeds"),
    "evaluate": (
        "foveal.cli.commands.evaluate",
        "top-1, top-5 and mCE of a classifier, AP of a detector, mIoU of a segmenter",
    ),
    "predict": (
        "foveal.cli.commands.predict",
        "classes of image files, objects in them, or the class of every pixel, drawn",
    ),
    "explain": (
        "foveal.cli.commands.explain",
        "what a network sees: receptive field, attention, evidence for a class, branches",
    ),
    "app": ("foveal.cli.commands.explorer", "the foveal explorer: look into a network in the browser, point by point"),
    "export": (
        "foveal.cli.commands.export",
        "a file for ONNX Runtime, OpenVINO or AOTInductor, checked against the network",
    ),
    "bench": ("foveal.cli.commands.bench", "speed beside timm's peers, in one interleaved run"),
}


def start() -> None:
    """Declare this process to be one of the command line; call it before foveal is imported."""
    global _started
    _started = True


def is_command_line() -> bool:
    """Return whether this process runs a command: by the console script, or by ``python -m foveal.cli``.

    ``-m`` stands in the place of the script while Python looks for the module to run, and imports its package.
    """
    return _started or (sys.argv[:1] == ["-m"] and "foveal.cli" in sys.orig_argv)


def overview() -> str:
    """Return the text of ``foveal --help``."""
    indent = max(map(len, COMMANDS)) + 4
    columns = min(shutil.get_terminal_size().columns, WIDEST)
    lines = [
        line
        for name, (_, does) in COMMANDS.items()
        for line in textwrap.wrap(
            does, columns, initial_indent=f"  {name}".ljust(indent), subsequent_indent=" " * indent
        )
    ]
    return "\n".join(
        ["usage: foveal COMMAND [OPTIONS]", "", *lines, "", "foveal COMMAND --help shows the options of a command."]
    )
