"""One run a folder: two that wrote the same checkpoints would spoil both."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from foveal.errors import FovealError
from foveal.files import write_errors

LOCK = ".lock"


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the folder ``out`` for this process, making it where it is not there; the system lets go when we are killed.

    Where the system or the file system has no locks (Windows, some network disks) nothing is held.

    Raises:
        FovealError: another process holds it, or it cannot be made.
    """
    path = out / LOCK
    with write_errors(out, "choose another --out"):
        out.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FovealError(
                f"Another process is training into {out}: wait for its end, or choose another --out."
            ) from error
        except (ModuleNotFoundError, OSError):  # no locks here
            yield
            return
        try:
            yield
        finally:
            _remove(path, file.fileno())


def _remove(path: Path, descriptor: int) -> None:
    """Only the file that we hold: somebody may have cleared the folder and begun anew."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_ino == os.fstat(descriptor).st_ino:
            path.unlink()
