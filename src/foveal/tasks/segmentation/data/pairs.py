"""Images and their label maps, paired by name, and what else was found beside them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from foveal.errors import FovealError
from foveal.image_files import read_text
from foveal.tasks.listing import Listing, counts_of, few, find_entry, image_endings, left_out, list_images, walk_images
from foveal.tasks.segmentation.data.class_names import CLASSES_FILE, COLOURS_FILE, ROBOFLOW_FILE
from foveal.tasks.segmentation.data.folders import SplitFolders, other_folders
from foveal.tasks.segmentation.data.label_maps import label_map_endings

# A mask of one object, as Label Studio exports them: neither the image nor the number of a class is in it.
LABEL_STUDIO = re.compile(r"task-\d+-annotation-\d+-by-.*-tag-.*")


@dataclass(frozen=True)
class Pairs:
    """Images and their label maps, in alphabetical order, and sentences about what else was there."""

    files: list[tuple[Path, Path]]
    notices: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Found:
    """The files of a split, how many others are beside the label maps, by ending, and sentences about all others."""

    images: list[Path]
    maps: list[Path]
    notices: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def find_pairs(folders: SplitFolders, split: str) -> Pairs:
    """Pair each image with the label map of the same name and the suffix of ``folders``.

    Raises:
        FovealError: there are no images, an image has no label map, or two images or label maps have the same name.
    """
    found = _beside(folders) if folders.images == folders.labels else _apart(folders)
    images = _by_name(folders.images, found.images, "", "image")
    maps = _by_name(folders.labels, found.maps, folders.suffix, "label map")
    if folders.listing is not None:
        images = _listed(folders.listing, images, folders.images)
    if not images:
        inside = few(other_folders(folders))
        within = f", only its folders have ({inside})" if inside else ""
        raise FovealError(f"{folders.images} has no image{within}: put the images of {split} there.")
    absent = [name for name in images if name not in maps]
    if absent:
        raise FovealError(_absent(folders, absent, images, found))
    notices = list(found.notices)
    if folders.listing is None:
        notices += _unpaired(folders.labels, [file for name, file in maps.items() if name not in images])
    return Pairs([(file, maps[name]) for name, file in images.items()], notices)


def _apart(folders: SplitFolders) -> _Found:
    if folders.listing is not None:
        endings = label_map_endings()
        return _Found(walk_images(folders.images).images, walk_images(folders.labels, endings).images)
    images = _list(folders.images, folders.shared)
    label_maps = _list(folders.labels, folders.shared, label_map_endings())
    inside = few(other_folders(folders))
    notices = left_out(_unread(images.others, folders), folders.images)
    if inside and images.paths:
        notices.append(f"The images in folders of {folders.images} are left out: {inside}.")
    notices += _no_label_maps(folders.labels, label_maps.others)
    return _Found(images.images, label_maps.images, notices, label_maps.others)


def _list(folder: Path, below: Sequence[str], endings: frozenset[str] | None = None) -> Listing:
    """List the image files in a folder and in some of its subfolders."""
    listing = list_images(folder, endings)
    for name in below:
        more = walk_images(folder / name, endings)
        listing.paths += more.paths
        listing.others += more.others
    return listing


def _beside(folders: SplitFolders) -> _Found:
    """Separate images from label maps in one folder by the suffix."""
    listing, endings = list_images(folders.images), label_map_endings()
    maps = [file for file in listing.images if file.stem.endswith(folders.suffix) and file.suffix.lower() in endings]
    images = sorted(set(listing.images) - set(maps))
    return _Found(images, maps, left_out(_unread(listing.others, folders), folders.images))


def _unread(others: Counter[str], folders: SplitFolders) -> Counter[str]:
    """Return the counts without the files that name the classes."""
    lists = [folders.images / ROBOFLOW_FILE]
    if folders.images == folders.root:
        lists += [find_entry(folders.root, name) for name in (CLASSES_FILE, COLOURS_FILE)]
    return others - Counter(file.suffix.lower() for file in lists if file.is_file())


def _by_name(folder: Path, files: Iterable[Path], suffix: str, what: str) -> dict[str, Path]:
    """Return files by their path within ``folder`` without suffix and ending; those without the suffix do not count."""
    named: dict[str, Path] = {}
    for file in files:
        stem = _stem(folder, file)
        if not stem.endswith(suffix):
            continue
        name = stem.removesuffix(suffix)
        if name in named:
            same = "label map" if what == "image" else "image"
            raise FovealError(f"{named[name]} and {file.name} have the same {same}: remove one of them.")
        named[name] = file
    return named


def _stem(folder: Path, file: Path) -> str:
    """Return the path of a file within a folder, without its ending; pathlib's way is ten times as slow."""
    return os.path.splitext(str(file)[len(str(folder)) + 1 :])[0].replace(os.sep, "/")


def _listed(listing: Path, images: dict[str, Path], folder: Path) -> dict[str, Path]:
    """Return the images that a file lists, one per line: a name or path, with or without an ending, and perhaps the
    label map after it."""
    names = list(dict.fromkeys(line.strip() for line in read_text(listing).splitlines() if line.strip()))
    if not names:
        raise FovealError(f"{listing} lists no image: write the names of the images into it, one per line.")
    found: dict[str, Path] = {}
    for name in names:
        known = next((one for one in _possible_names(name, folder) if one in images), None)
        if known is None:
            raise FovealError(f"{listing} lists {name!r}, and {folder} has no such image: add it, or remove the line.")
        found[known] = images[known]
    return dict(sorted(found.items()))


def _possible_names(line: str, folder: Path) -> Iterator[str]:
    """Yield what a line of a list may call an image, the whole line first."""
    for text in (line, line.split()[0]):
        stem, ending = os.path.splitext(text)
        for name in (text, stem) if ending.lower() in image_endings() else (text,):
            yield name
            yield name.replace("\\", "/").rpartition(f"{folder.name}/")[2]


def _absent(folders: SplitFolders, absent: Sequence[str], images: dict[str, Path], found: _Found) -> str:
    """Return the sentence about images without a label map, with the reason if the other files show one."""
    first, others = images[absent[0]], len(absent) - 1
    more = f", and {others} more image{'s have' if others > 1 else ' has'} none" if others else ""
    wanted = folders.labels / f"{absent[0]}{folders.suffix}.png"
    lossy = [wanted.with_suffix(ending) for ending in sorted(image_endings() - label_map_endings())]
    stored = next((file for file in lossy if file.is_file() and file != first), None)
    if stored is not None:
        advice = (
            f"{stored.name} is not a label map, because its format may change pixels: save it as PNG, from its source"
        )
        return f"{first} has no label map {wanted}{more}; {advice}."
    if any(LABEL_STUDIO.fullmatch(file.stem) for file in found.maps):
        return (
            f"{folders.labels} has Label Studio's masks, one for each object, which do not say the numbers of their "
            "classes or the names of their images: export in COCO's format for a detector, or write one label map for "
            f"each image, such as {wanted}."
        )
    if not found.maps and found.others:
        return (
            f"{folders.labels} has no label map, only {counts_of(found.others)}: put one there for each image, such as "
            f"{wanted}."
        )
    suffix = _common_suffix(list(images), [_stem(folders.labels, file) for file in found.maps])
    if suffix is not None and suffix != folders.suffix:
        advice = (
            f"pass --mask-suffix={suffix}, which the label maps' names have" if suffix else "leave --mask-suffix out"
        )
        return f"{first} has no label map {wanted}{more}: {advice}."
    return f"{first} has no label map {wanted}{more}: add what is missing, or remove the images."


def _common_suffix(images: Sequence[str], maps: Sequence[str]) -> str | None:
    """Return what all label maps' names have after those of the images, if it is the same for every image; "" if they
    are equal."""
    known, first = set(maps), images[0]
    candidates = sorted({name.removeprefix(first) for name in maps if name.startswith(first)}, key=len)
    return next((end for end in candidates if all(f"{name}{end}" in known for name in images)), None)


def _no_label_maps(folder: Path, others: Counter[str]) -> list[str]:
    """Return a sentence about the files beside label maps that are none."""
    count = sum(others.values())
    files = "file that is not a label map" if count == 1 else "files that are not label maps"
    return [f"{folder} has {count} {files}, left out: {counts_of(others)}."] if count else []


def _unpaired(folder: Path, maps: Sequence[Path]) -> list[str]:
    """Return a sentence about label maps without an image."""
    if not maps:
        return []
    if len(maps) == 1:
        return [f"{maps[0]} is left out, because it has no image."]
    return [f"{folder} has {len(maps)} label maps without an image, left out: {maps[0].name}, ..."]
