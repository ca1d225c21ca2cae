"""Tar shards in webdataset's format: their location, number of images, and class names."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from foveal.errors import FovealError
from foveal.tasks.classification.data.class_folders import find_split_folder
from foveal.tasks.classification.data.images import Images
from foveal.tasks.classification.data.shard_images import LocalShards, RemoteShards, open_url
from foveal.tasks.classification.data.tar_index import read_index
from foveal.tasks.listing import is_hidden, split_names

_ANY_SPLIT = "|".join((*split_names("train"), *split_names("val")))
READERS = 8


def names_shards(text: str) -> bool:
    """Return whether ``text`` is a pattern or address of shards, or a folder of them."""
    if is_remote(text):
        return True
    if Path(text).is_dir():
        train = find_split_folder(Path(text), "train")
        return train is None and any(_is_of(file.name, _ANY_SPLIT) for file in _tars(Path(text)))
    return ".tar" in text


class Shards:
    """Splits of ``text``: a folder, or brace patterns joined by ``::``.

    A shard belongs to the split that its file name contains (``train-000.tar``, ``imagenet-val-000.tar``).
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def place(self, split: str) -> str:
        return f"{self.text} ({split})"

    def set_name(self, split: str) -> str:
        first = _file_name(self._urls(split)[0])
        return next((name for name in split_names(split) if _is_of(first, name)), split)

    def check(self, split: str) -> None:
        self._urls(split)

    def open(self, split: str, classes: list[str] | None = None) -> Images:
        urls = self._urls(split)
        named = _class_names(urls[0])
        if is_remote(urls[0]):
            if named is None:
                raise FovealError(
                    f"{urls[0]} is remote and has no list of classes: put a classes.txt next to it, with one name per "
                    "line."
                )
            return RemoteShards(urls, _sizes(urls), named)
        with ThreadPoolExecutor(READERS) as readers:
            shards = list(readers.map(read_index, map(Path, urls)))
        labels = [entry.label for shard in shards for entry in shard]
        if not labels:
            raise FovealError(f"The shards {self.place(split)} have no images: write them again.")
        images = LocalShards(urls, shards, named or classes or [str(number) for number in range(max(labels) + 1)])
        _check_labels(images)
        return images

    def _urls(self, split: str) -> list[str]:
        """Return the split's shards in order, including those in the folders of another split's shards."""
        if not is_remote(self.text) and Path(self.text).is_dir():
            given, beside = [], [Path(self.text)]
        else:
            given = list(_expanded(self.text))
            beside = list(dict.fromkeys(Path(url).parent for url in given if not is_remote(url)))
        word = "|".join(map(re.escape, split_names(split)))
        named = [url for url in given if _is_of(_file_name(url), word)]
        found = named or [str(file) for folder in beside for file in _tars(folder) if _is_of(file.name, word)]
        if not found:
            raise FovealError(
                f"{self.text} has no {split} shards: name them {split}-000.tar and so on in the same folder, or pass "
                "--data with the patterns of both splits, joined by '::'."
            )
        missing = next((url for url in named if not is_remote(url) and not Path(url).is_file()), None)
        if missing is not None:
            raise FovealError(f"There is no shard {missing}: check the numbers in --data.")
        return found


def is_remote(url: str) -> bool:
    """Return whether a shard is an address or a command instead of a local file."""
    return "://" in url or url.startswith("pipe:")


def _expanded(text: str) -> Iterator[str]:
    try:
        from braceexpand import braceexpand
    except ModuleNotFoundError as error:
        raise FovealError("Tar shards need webdataset: install it with `pip install 'foveal[train]'`.") from error
    try:
        for pattern in text.split("::"):
            yield from braceexpand(pattern)
    except ValueError as error:
        raise FovealError(f"The braces of {text} do not match: write train-{{000..146}}.tar.") from error


def _tars(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.tar") if not is_hidden(file.name)) if folder.is_dir() else []


def _is_of(name: str, word: str) -> bool:
    return re.search(rf"(?:^|[^a-z])(?:{word})(?![a-z])", name.lower()) is not None


def _file_name(url: str) -> str:
    return (re.findall(r"[^/\s]+\.tar", url) or [url])[-1]


def _beside(url: str, name: str) -> str:
    """Return the address of another file in the shard's folder, also within a command."""
    shard = _file_name(url)
    before, _, after = url.rpartition(shard)
    return f"{before}{name}{after}"


def _read_beside(url: str, name: str) -> str | None:
    """Return the text of a file in the shard's folder, or None if there is none."""
    if not is_remote(url) and not Path(_beside(url, name)).is_file():
        return None
    try:
        with open_url(_beside(url, name)) as file:
            return file.read().decode("utf-8") or None
    except OSError:
        return None
    except UnicodeDecodeError as error:
        raise FovealError(f"{_beside(url, name)} is not a text file in UTF-8: write it again.") from error


def _class_names(url: str) -> list[str] | None:
    """Return the lines of ``classes.txt`` or the list in ``classes.json`` next to the shard."""
    text = _read_beside(url, "classes.txt")
    if text is not None:
        names = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        text = _read_beside(url, "classes.json")
        if text is None:
            return None
        names = _parsed(text, _beside(url, "classes.json"))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FovealError(
            f"{_beside(url, 'classes.json')} is not a list of names: write it in the order of the labels."
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise FovealError(f"The class {twice!r} occurs twice in the list next to {url}: give each class a unique name.")
    return names


def _sizes(urls: list[str]) -> list[int]:
    """Read the number of images per shard from ``sizes.json``: ``{"train-000.tar": 1251, ...}`` or a shardlist."""
    place = _beside(urls[0], "sizes.json")
    text = _read_beside(urls[0], "sizes.json")
    if text is None:
        raise FovealError(
            f"{urls[0]} is remote and its number of images is unknown: put a sizes.json next to it, "
            f'{{"{_file_name(urls[0])}": 1251, ...}}.'
        )
    index = _parsed(text, place)
    if isinstance(index, dict) and isinstance(index.get("shardlist"), list):
        index = {_file_name(str(shard.get("url"))): shard.get("nsamples") for shard in index["shardlist"]}
    sizes = []
    for url in urls:
        size = index.get(_file_name(url)) if isinstance(index, dict) else None
        if not isinstance(size, int) or size < 0:
            raise FovealError(f"{place} does not say how many images {_file_name(url)} has: write it again.")
        sizes.append(size)
    if not sum(sizes):
        raise FovealError(f"{place} says that there are no images: write it again.")
    return sizes


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise FovealError(f"{place} is not readable JSON: write it again.") from error


def _check_labels(images: LocalShards) -> None:
    count = len(images.classes)
    for name, label in zip(images.names, images.targets, strict=True):
        if not 0 <= label < count:
            raise FovealError(
                f"{name} has the label {label}, and classes range from 0 to {count - 1}: write the shard again, or add "
                "the class to classes.txt."
            )
