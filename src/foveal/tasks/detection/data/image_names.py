"""The image file that a name in an annotation file means, as tools on other systems write it."""

import os
from collections import Counter, defaultdict
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from foveal.tasks.listing import is_hidden, is_image, walk_images

_ANNOTATIONS = (".json", ".txt", ".yaml", ".yml", ".csv", ".md")


class ImageNames:
    """The files in a folder, found by the names that annotations give them.

    A name is a path relative to the folder. Otherwise it may have Windows' separators or URL's escapes, and begin
    with folders that the disk has not, or lack some that it has. Of several such files, the one that shares the most
    of its last parts is meant.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._present = {file.name for file in os.scandir(folder)}

    def find(self, name: str) -> str | None:
        """Return the path of a file relative to the folder, ``name`` itself if there is such a file, or None."""
        if name in self._present or os.path.isfile(self.folder / name):
            return name
        spelled = _spelled(name)
        return next((path for path in spelled if os.path.isfile(self.folder / path)), None) or self._below(spelled[-1])

    def unlisted(self, names: set[str]) -> list[str]:
        """Return the images directly in the folder that are not among ``names``, in alphabetical order."""
        return sorted(name for name in self._present - names if is_image(name))

    def others(self, names: set[str]) -> Counter[str]:
        """Return how many files directly in the folder are neither images nor among ``names``, by ending.

        Files in the formats of annotations do not count: they may be those of other splits.
        """
        found = [name for name in sorted(self._present - names) if not is_image(name) and not is_hidden(name)]
        endings = (os.path.splitext(name)[1].lower() for name in found if (self.folder / name).is_file())
        return Counter(ending for ending in endings if ending not in _ANNOTATIONS)

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        """Paths of all images by the last part of their names, in lower case: read once a name is not found."""
        found = defaultdict(list)
        for file in walk_images(self.folder).images:
            found[file.name.casefold()].append(file.relative_to(self.folder).as_posix())
        return found

    def _below(self, name: str) -> str | None:
        """Return the only file whose path ends with the name, or that the name ends with."""
        parts = [part.casefold() for part in PurePosixPath(name).parts]
        shared = {path: _shared(parts, path) for path in self._by_name.get(parts[-1] if parts else "", [])}
        best = [path for path, count in shared.items() if count and count == max(shared.values())]
        return best[0] if len(best) == 1 else None


def _spelled(name: str) -> list[str]:
    """Return what a name may mean: with separators of this system, as the path of a URL, without escapes."""
    path = name.replace("\\", "/")
    if "?d=" in path:  # Label Studio's local files
        path = path.rpartition("?d=")[2]
    elif "://" in path:
        path = path.partition("://")[2].partition("?")[0]
    return list(dict.fromkeys([path, unquote(path), unquote(path).replace("\\", "/")]))


def _shared(parts: list[str], path: str) -> int:
    """Return how many parts a name and a path share, if all of one of them are the last of the other, else 0."""
    other = [part.casefold() for part in PurePosixPath(path).parts]
    count = min(len(parts), len(other))
    return count if parts[-count:] == other[-count:] else 0
