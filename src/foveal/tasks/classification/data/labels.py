"""The label of a sample in a shard: ``key.cls`` holds the class number, or ``key.json`` under "label"."""

import json
from collections.abc import Mapping

from foveal.errors import FovealError

IMAGES = ("jpg", "jpeg", "png", "webp")
LABELS = ("cls", "json")


def label_of(contents: Mapping[str, bytes], name: str) -> int:
    """The class number from a sample's files by ending; ``name`` is what it is called.

    Raises:
        FovealError: there is none, or it is no whole number.
    """
    if "cls" in contents:
        text = contents["cls"].decode("utf-8", "replace").strip()
    elif "json" in contents:
        text = _from_json(contents["json"], name)
    else:
        raise FovealError(f"{name} has no label beside it: write the shard again with .cls or .json files.")
    try:
        return int(text)
    except ValueError as error:
        raise FovealError(f"{name} has the label {text[:40]!r}, which is no class number: write it again.") from error


def _from_json(content: bytes, name: str) -> str:
    try:
        return str(json.loads(content)["label"])
    except (ValueError, KeyError, TypeError) as error:
        raise FovealError(f'{name} has a .json without "label": write the shard again.') from error
