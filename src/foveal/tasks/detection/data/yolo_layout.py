"""Where YOLO's images and labels are: as ``data.yaml`` says (Ultralytics, Roboflow, CVAT), as ``obj.data`` says
(Darknet, CVAT), or in ``images/`` and ``labels/`` beside ``classes.txt`` (Label Studio)."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foveal.errors import FovealError
from foveal.image_files import read_text
from foveal.tasks.detection.data.coco_file import Split
from foveal.tasks.detection.data.entries import whole
from foveal.tasks.detection.data.yolo import IMAGES, LABEL_ENDING, LABELS, YoloSplit, labels_of, resolve
from foveal.tasks.listing import few, find_entry, is_hidden, split_names

SETTINGS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
YAML = (".yaml", ".yml")
DARKNET = "obj.data"
NAMES = ("classes.txt", "obj.names")
_KEYS = {"names", "train"}


def is_settings(file: Path) -> bool:
    """Return whether this is a file that may be passed instead of its folder."""
    return file.suffix.casefold() in YAML and file.is_file()


def find_yolo(folder: Path, split: str | None) -> Split | None:
    """Return a split with YOLO's labels, or the whole folder for None; None if there is no such split.

    ``folder`` may be a file of settings in that folder.

    Raises:
        FovealError: the file with the names of classes is missing, or cannot be read.
    """
    file, settings = _settings(folder)
    folder = folder if file is None else file.parent
    given = [] if file is None or split is None else _given(file, settings, split)
    if file is not None and (named := _named(file, settings, given, split)):
        return named
    for images, labels in _places(folder, split):
        if images.is_dir() and labels.is_dir():
            names = _listed_names(folder, labels) if file is None else _names(file, settings)
            remarks = (
                (f"{file} names {few(given)} for {split}, which is not there: {images} is read.",) if given else ()
            )
            return _opened(labels, folder, names, (images,), split, remarks, _keypoints(file, settings))
    return None


def missing_yolo(folder: Path, split: str) -> str | None:
    """Return the part of a sentence that says which images of a split a file of settings names, or None."""
    file, settings = _settings(folder)
    given = [] if file is None else _given(file, settings, split)
    return f"{file} names {few(given)} for {split}, which is not there: correct it" if given else None


def _settings(folder: Path) -> tuple[Path | None, Mapping[str, Any]]:
    """Return the file of settings, None if there is none, and its content."""
    files = [folder] if is_settings(folder) else [folder / name for name in SETTINGS if (folder / name).is_file()]
    if not files and (folder / DARKNET).is_file():
        return folder / DARKNET, _darknet(folder / DARKNET)
    files = files[:1] or _other_settings(folder)
    if len(files) > 1:
        names = few([file.name for file in files])
        raise FovealError(f"{folder} has several files with names of classes, {names}: pass one of them as --data.")
    return (files[0], _yaml(files[0])) if files else (None, {})


def _other_settings(folder: Path) -> list[Path]:
    """Return the files in a folder with other names, such as ``coco128.yaml``, that name classes and images."""
    files = sorted(file for file in folder.iterdir() if is_settings(file) and not is_hidden(file.name))
    return [file for file in files if {line.partition(":")[0] for line in read_text(file).splitlines()} >= _KEYS]


def _places(folder: Path, split: str | None) -> list[tuple[Path, Path]]:
    """Return the folders of images and labels that a split may have, or the whole folder."""
    if split is None:
        return [(find_entry(folder, IMAGES), find_entry(folder, LABELS))]
    names = split_names(split)
    return [
        *((find_entry(folder, IMAGES, name), find_entry(folder, LABELS, name)) for name in names),
        *((find_entry(folder, name, IMAGES), find_entry(folder, name, LABELS)) for name in names),
    ]


def _given(file: Path, settings: Mapping[str, Any], split: str) -> list[str]:
    """Return the paths that a file of settings names for a split."""
    given = next((found for name in split_names(split) if (found := settings.get(name))), None)
    paths = [given] if isinstance(given, str) else given or []
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise FovealError(f"{file} names {paths} for {split}, which is neither a path nor a list of paths: correct it.")
    return paths


def _named(file: Path, settings: Mapping[str, Any], paths: list[str], split: str | None) -> Split | None:
    """Return the split with the images that a file of settings names, None if none of them is there."""
    folder = file.parent
    base = folder / str(settings.get("path") or "")
    places = [_place(base, folder, path) for path in paths]
    found = [place for place in places if place is not None]
    if not found:
        return None
    if len(found) < len(paths):
        missing = [path for path, place in zip(paths, places, strict=True) if place is None]
        raise FovealError(f"{file} names {few(missing)}, which is not there: correct it, or add the images.")
    labels = found[0] if found[0].suffix == LABEL_ENDING else labels_of(found[0]) or found[0]
    names, keypoints = _names(file, settings), _keypoints(file, settings)
    return _opened(labels, folder, names, tuple(found), split, keypoints=keypoints)


def _place(base: Path, folder: Path, path: str) -> Path | None:
    return base / path if os.path.exists(base / path) else resolve(folder, path)


def _opened(
    labels: Path,
    folder: Path,
    names: dict[int, str],
    sources: tuple[Path, ...],
    split: str | None,
    remarks: tuple[str, ...] = (),
    keypoints: int = 0,
) -> Split:
    name = "" if split is None else _called(Path(os.path.relpath(sources[0], folder)), split)
    known: dict[str, Any] = {"names": names, "sources": sources, "remarks": remarks, "keypoints": keypoints}
    return YoloSplit(labels, folder, shared=True, name=name, **known)


def _called(place: Path, split: str) -> str:
    """Return what a split is called in the path of its images, or of their list, "valid" for "val"."""
    stems = [Path(part).stem for part in place.parts]
    return next((stem for stem in stems if stem.casefold() in split_names(split)), split)


def _yaml(file: Path) -> Mapping[str, Any]:
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise FovealError(f"{file} is read by PyYAML: install it with `pip install 'foveal[dense]'`.") from error
    try:
        content = yaml.safe_load(read_text(file))
    except yaml.YAMLError as error:
        raise FovealError(f"{file} is not YAML ({' '.join(str(error).split())}): correct it.") from error
    if not isinstance(content, dict):
        raise FovealError(f"{file} has no settings such as `names`: write those of a YOLO data set.")
    return content


def _darknet(file: Path) -> Mapping[str, Any]:
    """Return Darknet's settings, lines of ``key = value``, with the names of the classes."""
    lines = (line.split("=", 1) for line in read_text(file).splitlines() if "=" in line)
    settings: dict[str, Any] = {key.strip(): value.strip() for key, value in lines}
    names = resolve(file.parent, settings.get("names", NAMES[1]))
    return {**settings, "names": None if names is None else _lines(names)}


def _names(file: Path, settings: Mapping[str, Any]) -> dict[int, str]:
    given = settings.get("names")
    pairs = (
        list(enumerate(given)) if isinstance(given, list) else list(given.items()) if isinstance(given, dict) else []
    )
    names = {number: str(name) for key, name in pairs if (number := whole(key)) is not None}
    if not names or len(names) != len(pairs):
        raise FovealError(f"{file} has no names of classes: write `names: [cat, dog]`, in the order of their numbers.")
    return names


def _keypoints(file: Path | None, settings: Mapping[str, Any]) -> int:
    """Return how many numbers of keypoints follow each box of a data set of poses: ``kpt_shape`` is [17, 3] for 51."""
    given = settings.get("kpt_shape")
    if given is None:
        return 0
    shape = [whole(number) for number in given] if isinstance(given, list) else []
    if len(shape) != 2 or any(number is None or number < 1 for number in shape):
        raise FovealError(f"{file} has kpt_shape {given}: write the number of points and of numbers of each, [17, 3].")
    return math.prod(number for number in shape if number is not None)


def _listed_names(folder: Path, labels: Path) -> dict[int, str]:
    places = [place / name for place in (folder, labels.parent, labels) for name in NAMES]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise FovealError(
            f"{labels} has YOLO's labels, and nothing names their classes: write {folder / NAMES[0]} with one name per "
            f"line, or {folder / SETTINGS[0]}."
        )
    names = dict(enumerate(_lines(file)))
    if not names:
        raise FovealError(f"{file} is empty: write the names of the classes, one per line.")
    return names


def _lines(file: Path) -> list[str]:
    return [line.strip() for line in read_text(file).splitlines() if line.strip()]
