"""The console script, outside the package: while PyTorch loads, for seconds, Ctrl-C leaves as cleanly as later."""

import sys


def main() -> None:
    """`foveal COMMAND`; see `foveal.cli.app`."""
    try:
        from foveal.cli.app import main as run
    except KeyboardInterrupt:
        print("foveal: Stopped.", file=sys.stderr)
        sys.exit(130)
    run()
