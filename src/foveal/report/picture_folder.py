"""A folder of pictures that a run fills anew: pictures of the run before that are not written again are removed.

The run notes in a hidden file what it wrote, with size and time of every file. Only a file that is still the same is
removed, so nothing that a person put or changed there is lost.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from foveal.files import OutputPaths, staging_folder, write_errors
from foveal.runtime.reading import Picture

NOTE = ".foveal-predict.json"
ADVICE = "choose another --out"
Stamp = list[int]  # size in bytes, time of the last change in nanoseconds


class PictureFolder:
    """Where the files of a run are written, and the paths that they will have.

    Attributes:
        stage: the hidden folder whose content moves into place at the end.
    """

    def __init__(self, folder: Path, stage: Path, inputs: Collection[str], endings: Sequence[str]) -> None:
        self.stage = stage
        self._paths = OutputPaths(inputs, folder, endings)

    def place(self, picture: Picture) -> tuple[list[Path], list[Path]]:
        """Return the paths of a picture's outputs, one per ending, and where to write them until the end."""
        final = self._paths.of(picture.stem)
        return final, [self.stage / path.name for path in final]


@contextmanager
def picture_folder(folder: Path, inputs: Collection[str], endings: Sequence[str]) -> Iterator[PictureFolder]:
    """Yield a folder to write pictures to, which appear in ``folder`` together at the end of the block.

    Args:
        inputs: files that are read; none of them is replaced or removed.
        endings: of the outputs of each picture.

    Raises:
        FovealError: the system refuses to write.
    """
    before = written_before(folder)
    with staging_folder(folder, ADVICE) as stage, write_errors(folder, ADVICE):
        yield PictureFolder(folder, stage, inputs, endings)
        now = {file.name: _stamp(file) for file in sorted(stage.iterdir())}
        (stage / NOTE).write_text(json.dumps({"written": now}, indent=0) + "\n", encoding="utf-8")
    read = {Path(path).resolve() for path in inputs}
    for name, stamp in before.items():
        file = folder / name
        if name not in now and file.resolve() not in read and file.is_file() and _stamp(file) == stamp:
            file.unlink()


def written_before(folder: Path) -> dict[str, Stamp]:
    """Return the files that the last run wrote into ``folder``, as its note says; none without a readable note."""
    try:
        note: Any = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        written = note["written"]
        return {name: stamp for name, stamp in written.items() if name == Path(name).name}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _stamp(file: Path) -> Stamp:
    found = file.stat()
    return [found.st_size, found.st_mtime_ns]
