"""Files and folders that appear whole or not at all, and the folder for generated data.

Content is written beside its place, under a hidden name that ends in ``.part``, and renamed in one step. If anything
stops the block, Ctrl-C included, the hidden file or folder is removed and what was there before is untouched.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from foveal.errors import FovealError

ELSEWHERE = "choose another place"


@contextmanager
def atomic_file(path: Path, advice: str = ELSEWHERE, *, durable: bool = False) -> Iterator[Path]:
    """Yield a hidden path to write to, and rename it to ``path`` after the block.

    The hidden name is always the same, so what a kill leaves is overwritten by the next write.

    Args:
        path: The file to create or replace. Its folder must exist.
        advice: End of the error sentence.
        durable: Force the content and the new name to the disk (fsync), so that they survive a power failure.

    Raises:
        FovealError: The system refuses to write.
    """
    part = path.with_name(f".{path.name}.part")
    with write_errors(path, advice):
        try:
            yield part
            if durable:
                _flush_file(part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        if durable:
            _flush_folder(path.parent)


@contextmanager
def atomic_folder(folder: Path, advice: str = ELSEWHERE, *, durable: bool = False) -> Iterator[Path]:
    """Yield a hidden folder to fill, and rename it to ``folder`` after the block.

    If another process has filled ``folder`` in the meantime, its folder stays and ours is removed.

    Args:
        folder: The folder to create, together with its parents.
        advice: End of the error sentence.
        durable: Force all files and names to the disk (fsync), so that they survive a power failure.

    Raises:
        FovealError: The system refuses to write, or something else has the name of ``folder``.
    """
    with write_errors(folder, advice):
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
        try:
            yield part
            part.chmod(0o755)
            if durable:
                _flush_tree(part)
            _rename_unless_filled(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        if durable:
            _flush_folder(folder.parent)


def _rename_unless_filled(part: Path, folder: Path) -> None:
    try:
        part.rename(folder)
    except OSError:
        if not (folder.is_dir() and any(folder.iterdir())):  # every process renames, so a folder that is there is whole
            raise


@contextmanager
def staging_folder(folder: Path, advice: str = ELSEWHERE) -> Iterator[Path]:
    """Yield a hidden folder inside ``folder``, and move its content into ``folder`` after the block.

    For several files that belong together, in a folder that may hold others. A file of the same name is replaced. If
    the block is stopped, ``folder`` and those above it that were created here are removed too, unless they are filled.

    Raises:
        FovealError: The system refuses to create the folders or to move the content.
    """
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    make_folder(folder, advice)
    with write_errors(folder, advice):
        staging = Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=folder))
    try:
        yield staging
        items = sorted(staging.iterdir())
        for target in (folder / item.name for item in items):
            if target.is_dir() and not (staging / target.name).is_dir():  # before the first is moved
                raise FovealError(f"{target} is a folder, and a file of this name is to be written: {advice}.")
        with write_errors(folder, advice):
            for item in items:
                item.replace(folder / item.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        for place in new:
            if any(place.iterdir()):
                break
            place.rmdir()


@contextmanager
def write_errors(path: Path, advice: str = ELSEWHERE) -> Iterator[None]:
    """Turn an ``OSError`` inside the block into one sentence about ``path`` that ends with ``advice``."""
    try:
        yield
    except BrokenPipeError:  # of an answer on stdout, whose reader has gone
        raise
    except OSError as error:
        raise FovealError(f"{path} could not be written ({error.strerror or error}): {advice}.") from error


@contextmanager
def file_lock(path: Path, advice: str = ELSEWHERE, *, wait: bool = False) -> Iterator[bool]:
    """Hold the lock file ``path`` for this process inside the block, and yield whether it is ours.

    The system releases a lock when its process ends, however it ends. On systems and file systems without locks
    (Windows, some network disks) nothing is held, and True is yielded.

    Args:
        path: The file, which is created for the lock and removed afterwards. Its folder must exist.
        advice: End of the error sentence.
        wait: Wait until another process lets go, instead of yielding False.

    Raises:
        FovealError: The file cannot be created.
    """
    while True:
        with write_errors(path, advice):
            file = path.open("a")
        with file:
            held = _lock(file.fileno(), wait)
            if held and not _is_open_at(path, file.fileno()):
                continue  # the process before us has removed the file that we waited for
            try:
                yield held is not False
            finally:
                if held and _is_open_at(path, file.fileno()):
                    path.unlink(missing_ok=True)
            return


def _lock(descriptor: int, wait: bool) -> bool | None:
    """Lock an open file and return whether it is ours; None where there are no locks."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except (ModuleNotFoundError, OSError):
        return None
    return True


def _is_open_at(path: Path, descriptor: int) -> bool:
    """Return whether ``path`` is still the open file: its folder may have been cleared and used again."""
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def make_folder(folder: Path, advice: str = ELSEWHERE) -> None:
    """Create ``folder`` and its parents unless they exist. Raises FovealError."""
    with write_errors(folder, advice):
        folder.mkdir(parents=True, exist_ok=True)


class OutputPaths:
    """Paths in ``folder`` for the outputs of inputs that come one by one: a stem with each of the endings.

    A number is added to the stem if an output would otherwise replace that of another input, or one of ``inputs``.
    """

    def __init__(self, inputs: Iterable[str | Path], folder: Path, endings: Sequence[str]) -> None:
        self._taken = {Path(path).resolve() for path in inputs}
        self._folder, self._endings = folder, endings

    def of(self, stem: str) -> list[Path]:
        """Return the paths of the next input."""
        number, files = 1, [self._folder / f"{stem}{ending}" for ending in self._endings]
        while any(file.resolve() in self._taken for file in files):
            number += 1
            files = [self._folder / f"{stem}_{number}{ending}" for ending in self._endings]
        self._taken.update(file.resolve() for file in files)
        return files


def output_paths(inputs: Sequence[Path], folder: Path, endings: Sequence[str]) -> dict[str, list[Path]]:
    """Return the ``OutputPaths`` of each input, by its path, with its stem."""
    paths = OutputPaths(inputs, folder, endings)
    return {str(path): paths.of(path.stem) for path in dict.fromkeys(inputs)}


def check_writable(folder: Path) -> None:
    """Raise FovealError if nothing could be written into ``folder``, which need not exist yet. Nothing is created."""
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise FovealError(f"{nearest} is a file: pass --out with a folder.")
    if not os.access(nearest, os.W_OK):
        raise FovealError(f"{nearest} is not writable: choose another --out.")


def cache_folder() -> Path:
    """Return the folder for generated and unpacked data: ``$FOVEAL_CACHE``, or ``foveal`` in the user's cache."""
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("FOVEAL_CACHE") or Path(user, "foveal"))


def _flush_tree(folder: Path) -> None:
    for root, _, names in os.walk(folder):
        for name in names:
            _flush_file(Path(root, name))
        _flush_folder(Path(root))


def _flush_file(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Make the names in a folder durable, if the system can open a folder."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
