"""Where made and unpacked data are kept, and how a folder of them appears: whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """``$FOVEAL_CACHE``, else ``foveal`` in the user's cache folder."""
    return Path(
        os.environ.get("FOVEAL_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "foveal")
    )


@contextmanager
def filled_whole(folder: Path) -> Iterator[Path]:
    """A folder beside ``folder`` to be filled; it becomes ``folder`` when all went well, and is removed otherwise.

    Where another process of the same work was first, its folder stays.

    Raises:
        OSError: something cannot be written, or something else lies in the folder's place.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        yield part
        _appear(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _appear(part: Path, folder: Path) -> None:
    part.chmod(0o755)
    try:
        part.rename(folder)
    except OSError:
        if not (folder.is_dir() and any(folder.iterdir())):  # every process renames: what is there is whole
            raise
