"""The console script and its table of commands, outside the package: while PyTorch loads, for seconds, Ctrl-C leaves as
cleanly as later, and who asks which commands there are does not wait for it."""

import os
import sys

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
    "evaluate": ("foveal.cli.evaluate", "top-1, top-5 and mCE of a classifier, AP of a detector, mIoU of a segmenter"),
    "predict": ("foveal.cli.predict", "classes of image files, objects on them, or the class of every pixel, drawn"),
    "bench": ("foveal.cli.bench", "speed beside timm's peers, in one interleaved run"),
}


def overview() -> str:
    """What `foveal --help` says."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {does}" for name, (_, does) in COMMANDS.items()]
    return "\n".join(
        ["usage: foveal COMMAND [OPTIONS]", "", *lines, "", "foveal COMMAND --help tells the options of one."]
    )


def wait_briefly() -> None:
    """Let threads that wait for work on the CPU sleep soon, unless the environment says how they shall wait.

    PyTorch's backward pass brings threads of its own beside those of the forward pass. The OpenMP library of its Linux
    builds lets each of them spin for milliseconds, which on a machine with few cores takes the time from those that
    work. It reads the variable when it is loaded, so this must come before PyTorch.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = "10000"


def main() -> None:
    """`foveal COMMAND`; see `foveal.cli.app`."""
    if sys.argv[1:] in (["--help"], ["-h"]):
        try:
            print(overview(), flush=True)
        except BrokenPipeError:  # nobody reads it any more, nor what Python would write at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    wait_briefly()
    try:
        from foveal.cli.app import main as run
    except KeyboardInterrupt:
        print("foveal: Stopped.", file=sys.stderr)
        sys.exit(130)
    run()
