"""The words of a command, from its options: what was typed, as it can be typed again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any


def words_of(options: Any, settings: Mapping[str, Any], leave_out: frozenset[str] = frozenset()) -> list[str]:
    """Return the options that differ from their defaults as words.

    Args:
        options: a dataclass of options.
        settings: further options by name, each of which was given.
        leave_out: names of options that are not repeated.
    """
    own = {one.name: getattr(options, one.name) for one in fields(options)}
    usual = {one.name: one.default for one in fields(options)}
    changed = {name: value for name, value in own.items() if value != usual[name] and name not in leave_out}
    return [word for name, value in {**changed, **settings}.items() for word in _words(name, value)]


def _words(name: str, value: Any) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if value is True:
        return [flag]
    return [flag, *(str(one) for one in (value if isinstance(value, list | tuple) else [value]))]
