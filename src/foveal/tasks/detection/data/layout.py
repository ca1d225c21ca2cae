"""Where COCO keeps its files, and what an annotation file must have to be one."""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveal.errors import FovealError
from foveal.tasks.image_files import read_text

YEARS = ("2017", "")  # of the names, the first that is found counts


@dataclass(frozen=True)
class Place:
    """One split on disk."""

    annotations: Path
    images: Path


def find_split(folder: Path, split: str) -> Place:
    """``annotations/instances_<split>2017.json`` and ``<split>2017/`` in ``folder``, or both without the year.

    Raises:
        FovealError: one of them is missing.
    """
    if not folder.is_dir():
        raise FovealError(f"There is no folder {folder}: pass --data with a folder in COCO's layout.")
    files = {year: folder / "annotations" / f"instances_{split}{year}.json" for year in YEARS}
    year = next((year for year, file in files.items() if file.is_file()), None)
    if year is None:
        raise FovealError(
            f"{folder} has no annotations of {split}: lay them out as {files['2017']} or {files['']}, as COCO does."
        )
    images = folder / f"{split}{year}"
    if not images.is_dir():
        raise FovealError(f"{files[year]} needs its images in {images}, and there is no such folder: put them there.")
    return Place(files[year], images)


def read_annotations(file: Path) -> dict[str, list[dict[str, Any]]]:
    """``images``, ``annotations`` and ``categories`` of an annotation file, lists of dicts.

    Raises:
        FovealError: the file cannot be read, or is not made of these.
    """
    text = read_text(file)
    try:
        with resting_collector():
            content = json.loads(text)
    except ValueError as error:
        raise FovealError(f"{file} is not JSON ({error}): replace the file.") from error
    for name in ("images", "annotations", "categories"):
        entries = content.get(name) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise FovealError(f"{file} has no list of {name}: pass a file in COCO's format of instances.")
    return content


def read_categories(content: dict[str, list[dict[str, Any]]], file: Path) -> dict[int, str]:
    """Category id -> name, by ascending id.

    Raises:
        FovealError: there is none, or an id or a name is missing or stands there twice.
    """
    categories: dict[int, str] = {}
    for entry in content["categories"]:
        number, name = entry.get("id"), entry.get("name")
        if type(number) is not int or not isinstance(name, str):
            raise FovealError(f"{file} has a category without an id or a name, {entry}: give it both.")
        if number in categories or name in categories.values():
            raise FovealError(f"{file} has the category {number} ({name!r}) twice: remove one.")
        categories[number] = name
    if not categories:
        raise FovealError(f"{file} has no categories: add those of its annotations.")
    return dict(sorted(categories.items()))


@contextmanager
def resting_collector() -> Iterator[None]:
    """No search for unreachable objects inside: it would go over the millions just read again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
