"""What a user names to predict on: files, folders, patterns, videos, and lists of paths."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from foveal.errors import FovealError
from foveal.runtime.reading import Picture
from foveal.tasks.listing import is_image, left_out, walk_images
from foveal.tasks.video import check_reader, frame_pictures, is_video

STANDARD_INPUT = "-"
_URL = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # with one slash, too, as paths are normalised


@dataclass(frozen=True)
class Inputs:
    """Image and video files in the order in which they are predicted.

    Attributes:
        paths: of the files. Some may be missing or broken, which is found when they are read.
        notices: sentences about files that were left out.
        every: frames of a video from one prediction to the next.
    """

    paths: list[str]
    notices: tuple[str, ...] = ()
    every: int = 1

    @property
    def has_videos(self) -> bool:
        """Whether there is a video, whose frames are not counted beforehand."""
        return any(map(is_video, self.paths))

    @property
    def total(self) -> int | None:
        """The number of pictures; None if it is not known."""
        return None if self.has_videos else len(self.paths)

    def pictures(self) -> Iterator[Picture]:
        """Yield the image files, and the frames of videos."""
        for path in self.paths:
            if is_video(path):
                yield from frame_pictures(path, self.every)
            else:
                yield Picture.of(path)


def find_inputs(
    words: Iterable[str], lines: Iterable[str] = (), *, every: int = 1, written: Collection[Path] = ()
) -> Inputs:
    """Return the files that words on a command line name.

    A word is a file, a folder with images in it or below, a pattern such as ``photos/**/*.jpg``, or ``-`` for the
    files and folders in ``lines``. What folders and patterns find is sorted, without files that an earlier word found.

    Args:
        lines: paths, one each; empty ones do not count.
        every: frames of a video from one prediction to the next.
        written: resolved paths of files that an earlier prediction wrote, which folders and patterns do not find.

    Raises:
        FovealError: a word is a URL, or a folder, pattern or list without images; no file exists; or there is a video,
            and PyAV is not installed.
    """
    paths: list[str] = []
    seen: set[str] = set()
    notices: list[str] = []
    for word, is_pattern in _places(words, lines):
        if os.path.isdir(word):
            found, others = _in_folder(word, written)
            notices += others
        elif is_pattern:
            found = _matching(word, written)
        else:
            paths.append(word)
            seen.add(word)
            continue
        paths += [path for path in found if path not in seen]
        seen.update(found)
    _check(paths)
    return Inputs(paths, tuple(dict.fromkeys(notices)), every)


def check_named(words: Iterable[str]) -> None:
    """Raise FovealError for a URL among the words, or if they name files only, and none of them exists.

    It reads nothing, so it can precede what is slow.
    """
    named = [word if word == STANDARD_INPUT else _local(word) for word in words]
    if named and not any(word == STANDARD_INPUT or glob.has_magic(word) for word in named):
        _check_existence(named)


def _places(words: Iterable[str], lines: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Yield paths, and whether each is a pattern: one that is not the name of a file."""
    for word in words:
        if word == STANDARD_INPUT:
            listed = [line for line in (line.rstrip("\r\n") for line in lines) if line.strip()]
            if not listed:
                raise FovealError("The list on standard input is empty: write one path a line.")
            yield from ((_local(line), False) for line in listed)
        else:
            yield _local(word), glob.has_magic(word) and not os.path.lexists(word)


def _local(path: str) -> str:
    if _URL.match(path) and not os.path.lexists(path):
        raise FovealError(f"{path} is a URL: download the file, and pass its path.")
    return path


def _in_folder(folder: str, written: Collection[Path]) -> tuple[list[str], list[str]]:
    """Return the image files in a folder and below it, and sentences about others."""
    listing = walk_images(Path(folder))
    found = _without(listing.paths, written)
    if not found:
        raise FovealError(f"{folder} has no images, also not in its subfolders: pass a folder with images, or files.")
    return found, left_out(listing.others, folder)


def _matching(pattern: str, written: Collection[Path]) -> list[str]:
    """Return the image and video files that match a pattern, and the images in folders that match, sorted."""
    matches = sorted(glob.glob(pattern, recursive=True))
    # `**` finds the files below a folder that it finds, too.
    folders = [] if "**" in pattern else [match for match in matches if os.path.isdir(match)]
    files = [match for match in matches if os.path.isfile(match) and (is_image(_name(match)) or is_video(match))]
    files += [path for folder in folders for path in walk_images(Path(folder)).paths]
    found = _without(files, written)
    if not found:
        raise FovealError(f"No image matches {pattern}: check the pattern.")
    return found


def _without(paths: Iterable[str], written: Collection[Path]) -> list[str]:
    if not written:
        return list(paths)
    folders = {path.parent for path in written}
    return [path for path in paths if Path(path).parent.resolve() not in folders or Path(path).resolve() not in written]


def _name(path: str) -> str:
    return os.path.basename(path)


def _check(paths: Sequence[str]) -> None:
    _check_existence(paths)
    video = next(filter(is_video, paths), None)
    if video is not None:
        check_reader(video)


def _check_existence(paths: Sequence[str]) -> None:
    if not any(map(os.path.exists, paths)):
        raise FovealError(f"There is no image at {paths[0]}{_others(len(paths) - 1)}.")


def _others(count: int) -> str:
    if not count:
        return ": check the path"
    return f", nor at the {f'{count:,} other paths' if count > 1 else 'other path'}: check the paths"
