"""The console script, outside the package: it answers Ctrl-C and ``--help`` before PyTorch is loaded."""

import os
import signal
import sys

from foveal_commands import overview, start


def wait_briefly() -> None:
    """Make idle OpenMP threads on the CPU sleep soon, unless the environment sets how they wait.

    PyTorch's backward pass uses threads of its own in addition to those of the forward pass. In its Linux builds OpenMP
    lets each of them spin for milliseconds, which on a machine with few cores slows down the threads that work. OpenMP
    reads the variable when it is loaded, so this must be called before PyTorch is imported.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = "10000"


def main() -> None:
    """Run ``foveal COMMAND``; see ``foveal.cli.app``."""
    if sys.argv[1:] in (["--help"], ["-h"]):
        try:
            print(overview(), flush=True)
        except BrokenPipeError:  # the reader has gone; neither may Python write its buffer at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    start()
    wait_briefly()
    signal.signal(signal.SIGTERM, _leave)  # until a command takes it over: what is half-written is removed
    try:
        from foveal.cli.app import main as run
    except KeyboardInterrupt:
        print("foveal: Stopped.", file=sys.stderr)
        sys.exit(130)
    run()


def _leave(number: int, _: object) -> None:
    sys.exit(128 + number)
