"""Index of the samples in a tar shard, read from its headers.

The training shards of ImageNet have 2.5 million headers, which take Python's tarfile 26 microseconds each; here 10,
including labels: plain headers are parsed directly, and only long names or rare types fall back to tarfile.
"""

import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from foveal.errors import FovealError
from foveal.tasks.listing import image_endings, is_hidden

LABELS = ("cls", "json")


def label_of(contents: Mapping[str, bytes], name: str) -> int:
    """Return the class number of a sample: the content of ``key.cls``, or "label" in ``key.json``.

    Args:
        contents: contents of the sample's files by extension.
        name: name of the sample, for error messages.

    Raises:
        FovealError: there is no label, or it is not an integer.
    """
    if "cls" in contents:
        text = contents["cls"].decode("utf-8", "replace").strip()
    elif "json" in contents:
        text = _from_json(contents["json"], name)
    else:
        raise FovealError(f"{name} has no label: write the shard again with .cls or .json files.")
    try:
        return int(text)
    except ValueError as error:
        raise FovealError(
            f"{name} has the label {text[:40]!r}, which is not a class number: write it again."
        ) from error


def _from_json(content: bytes, name: str) -> str:
    try:
        return str(json.loads(content)["label"])
    except (ValueError, KeyError, TypeError) as error:
        raise FovealError(f'{name} has a .json without "label": write the shard again.') from error


BLOCK = 512
GZIP = b"\x1f\x8b"
PLAIN, FOLDER, EXTENDED, LONG_NAME = (b"0", b"\0"), b"5", b"x", b"L"


class Member(NamedTuple):
    """A file in a tar: byte offsets of its first ``header`` and its ``data``, and its ``size`` in bytes."""

    name: str
    header: int
    data: int
    size: int


@dataclass(frozen=True)
class Entry:
    """A sample in a tar: its image, the byte offset of its first header, and its label."""

    image: Member
    header: int
    label: int


def read_index(path: Path) -> list[Entry]:
    """Return the samples of a shard in order.

    Raises:
        FovealError: the file is not a complete tar, or a sample has no image or no label.
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise FovealError(f"The shard {path} cannot be read ({error.strerror}): check --data.") from error
    try:
        members = [member for member in _members(file, path) if counts(member.name)]
        return [_entry(group, file, path) for group in _grouped(members)]
    except OSError as error:
        raise FovealError(f"The shard {path} cannot be read ({error.strerror}): copy it again.") from error
    finally:
        os.close(file)


def counts(name: str) -> bool:
    """Return whether a member of this name belongs to a sample: not webdataset's own ``__name__``, and not hidden."""
    return not re.match(r"__[^/]*__($|/)", name) and not any(map(is_hidden, name.removeprefix("./").split("/")))


def is_image_ending(ending: str) -> bool:
    """Return whether an ending within a shard, such as "jpg", is that of an image."""
    return f".{ending}" in image_endings()


def split_name(name: str) -> tuple[str, str]:
    """Split a name into key and extension at the first dot, like webdataset: ``a/7.b.jpg`` -> ``a/7, b.jpg``."""
    match = re.match(r"^((?:.*/|)[^.]+)[.]([^/]*)$", name)
    return (match[1], match[2].lower()) if match else ("", "")


def _grouped(members: list[Member]) -> Iterator[list[Member]]:
    """Yield groups of consecutive members with the same key, skipping files without an extension."""
    group: list[Member] = []
    for member in members:
        key = split_name(member.name)[0]
        if not key:
            continue
        if group and split_name(group[0].name)[0] != key:
            yield group
            group = []
        group.append(member)
    if group:
        yield group


def _entry(group: list[Member], file: int, path: Path) -> Entry:
    extensions: dict[str, Member] = {}
    for member in group:
        extension = split_name(member.name)[1]
        if extension in extensions:
            raise FovealError(f"{path}/{member.name} occurs twice: write the shard again with one sample per key.")
        extensions[extension] = member
    image = next((member for extension, member in extensions.items() if is_image_ending(extension)), None)
    if image is None:
        raise FovealError(f"{path}/{group[0].name} has no image (.jpg, .png, ...): write the shard again without it.")
    contents = {e: os.pread(file, m.size, m.data) for e, m in extensions.items() if e in LABELS}
    return Entry(image, group[0].header, label_of(contents, f"{path}/{image.name}"))


def _members(file: int, path: Path) -> list[Member]:
    """Return the regular files of the tar, falling back to tarfile for unusual headers."""
    size, position, begin = os.fstat(file).st_size, 0, 0
    found: list[Member] = []
    while True:
        header = os.pread(file, BLOCK, position)
        if header == bytes(BLOCK):
            return found
        if len(header) < BLOCK:
            raise _cut(path) if found else _no_tar(path, header)
        if not _is_header(header):
            raise _no_tar(path, header)
        length, kind = _octal(header[124:136]), header[156:157]
        data = position + BLOCK
        if data + length > size:
            raise _cut(path)
        if kind in PLAIN:
            found.append(Member(_name(header), begin, data, length))
        elif not (kind == FOLDER or (kind == EXTENDED and _is_harmless(os.pread(file, length, data)))):
            return _members_by_tarfile(path)
        position = data + -(-length // BLOCK) * BLOCK
        if kind != EXTENDED:
            begin = position


def _members_by_tarfile(path: Path) -> list[Member]:
    try:
        with tarfile.open(path, "r:") as tar:
            return [Member(m.name, m.offset, m.offset_data, m.size) for m in tar if m.isreg()]
    except tarfile.TarError as error:
        raise _cut(path) from error


def _is_header(header: bytes) -> bool:
    """Return whether the checksum is correct, with its own field counted as spaces."""
    try:
        return _octal(header[148:156]) == sum(header[:148]) + sum(header[156:]) + 8 * ord(" ")
    except ValueError:
        return False


def _octal(field: bytes) -> int:
    return int(field.rstrip(b"\0 ").lstrip() or b"0", 8)


def _name(header: bytes) -> str:
    name, prefix = header[:100].rstrip(b"\0"), header[345:500].rstrip(b"\0")
    whole = prefix + b"/" + name if header[257:263] == b"ustar\0" and prefix else name
    return whole.decode("utf-8", "surrogateescape")


def _is_harmless(records: bytes) -> bool:
    """Return whether extended records keep name and size; webdataset's writer stores fractions of seconds in them."""
    return not re.search(rb"\d+ (path|size|GNU\.sparse[^=]*)=", records)


def _cut(path: Path) -> FovealError:
    return FovealError(f"The shard {path} is truncated: copy or write it again.")


def _no_tar(path: Path, header: bytes) -> FovealError:
    if header.startswith(GZIP):
        return FovealError(
            f"The shard {path} is compressed: decompress it to a plain .tar, since images do not get smaller."
        )
    return FovealError(f"The shard {path} is not a readable tar file: copy or write it again.")
