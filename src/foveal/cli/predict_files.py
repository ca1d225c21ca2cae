"""Names of the files that ``foveal predict`` writes."""

from collections.abc import Sequence
from pathlib import Path


def name_files(images: Sequence[Path], out: Path, endings: Sequence[str]) -> dict[str, list[Path]]:
    """Where the files of each image go: into ``out``, under its own name with each of the endings.

    Where one of them would lie on another image's, or on one of the images themselves, the name gets a number.
    """
    taken = {image.resolve() for image in images}
    files: dict[str, list[Path]] = {}
    for image in dict.fromkeys(images):
        number, paths = 1, [out / f"{image.stem}{ending}" for ending in endings]
        while any(path.resolve() in taken for path in paths):
            number += 1
            paths = [out / f"{image.stem}_{number}{ending}" for ending in endings]
        taken.update(path.resolve() for path in paths)
        files[str(image)] = paths
    return files
