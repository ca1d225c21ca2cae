"""The options of ``foveal train`` in a TOML file: ``--config FILE``, and the ``run.toml`` of every run.

A key is an option as it is typed, without the hyphens in front (``batch-size`` or ``batch_size``), and ``recipe``. A
switch is true or false. Paths are relative to the current folder, as on the command line; those that a run writes are
absolute.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from foveal.cli.mistakes import in_words
from foveal.cli.signature import Option
from foveal.errors import FovealError
from foveal.files import atomic_file
from foveal.near import did_you_mean
from foveal.version import __version__

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RUN_FILE = "run.toml"
ADVICE = "make room or choose another --out"
#: Options of the command, not of the run: they are not repeated from its file.
_OF_THE_COMMAND = frozenset(
    ("show_list", "config", "out", "resume", "requeue", "dry_run", "processes", "images", "json")
)
_UNREADABLE = ("show_list", "config")
_PLAIN = (str, bool, int, float, list)
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # hf:NAME, https://HOST, pipe:COMMAND; a drive has one letter


def read_run_file(path: Path, options: Sequence[Option]) -> dict[str, Any]:
    """Return the values in a file by the names of their options.

    Raises:
        FovealError: the file is missing or not TOML, a key is no option, or a value is of another type.
    """
    known = {_key(one): one for one in options if one.name not in _UNREADABLE}
    found: dict[str, Any] = {}
    for typed, value in _document(path).items():
        key = typed.replace("_", "-")
        if key not in known:
            raise FovealError(
                f"{path}: there is no option {typed!r}{did_you_mean(typed, known)}; "
                "`foveal train --help` shows all of them."
            )
        if known[key].name in found:
            raise FovealError(f"{path}: {key} is there twice, with a hyphen and with an underscore: remove one.")
        found[known[key].name] = _typed(path, known[key], value)
    return found


def write_run_file(path: Path, values: Mapping[str, Any], options: Sequence[Option]) -> None:
    """Write values by the names of their options. Raises FovealError if the disk refuses."""
    lines = [
        f"# foveal {__version__}. To train again with these options:",
        "# foveal train --config run.toml --out DIR",
        *(f"{_key(one)} = {_toml(values[one.name])}" for one in options if one.name in values),
    ]
    with atomic_file(path, ADVICE) as part:
        part.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))


def kept(*given: Any) -> dict[str, Any]:
    """Return what a run keeps of dataclasses of options: those that were given and are its own, with paths that are
    the same from any folder."""
    values = {
        one.name: getattr(options, one.name)
        for options in given
        for one in fields(options)
        if one.name not in _OF_THE_COMMAND and getattr(options, one.name) != one.default
    }
    return {name: _from_anywhere(value) if isinstance(value, Path) else value for name, value in values.items()}


def _key(one: Option) -> str:
    return one.name if one.positional else one.flag.removeprefix("--")


def _document(path: Path) -> dict[str, Any]:
    try:
        # As Python decodes names of files, which need not be UTF-8.
        return tomllib.loads(path.read_bytes().decode("utf-8-sig", "surrogateescape"))
    except FileNotFoundError:
        raise FovealError(f"There is no file {path}: check --config.") from None
    except OSError as error:
        raise FovealError(f"{path} could not be read ({error.strerror or error}): check --config.") from error
    except tomllib.TOMLDecodeError as error:
        raise FovealError(f"{path} is not TOML ({str(error).rstrip('.')}): correct it.") from error


def _typed(path: Path, one: Option, value: Any) -> Any:
    """Return a value as the command line would have it."""
    if one.is_switch:
        if isinstance(value, bool):
            return value
        raise FovealError(f"{path}: {_key(one)} takes true or false, not {_shown(value)}.")
    if isinstance(value, list) and (one.values != 1 or _is_list(one)):
        members = [_one(path, one, member) for member in value]
        return ",".join(members) if _is_list(one) else tuple(members)
    return _one(path, one, value) if one.values == 1 else (_one(path, one, value),)


def _is_list(one: Option) -> bool:
    """Whether the option is one word of names with commas in between."""
    return one.values == 1 and one.kinds == (str,) and one.metavar == "LIST"


def _one(path: Path, one: Option, value: Any) -> Any:
    if isinstance(value, str) and (value in one.choices or str in one.kinds):
        return value
    if isinstance(value, str) and Path in one.kinds:
        return Path(value).expanduser()
    if isinstance(value, int) and not isinstance(value, bool):
        if int in one.kinds:
            return value
        if float in one.kinds:
            return float(value)
    if isinstance(value, float) and float in one.kinds:
        return value
    near = did_you_mean(value, one.choices, most=1) if isinstance(value, str) else ""
    raise FovealError(f"{path}: {_key(one)} takes {in_words(one)}, not {_shown(value)}{near}.")


def _shown(value: Any) -> str:
    return "a table" if isinstance(value, dict) else _toml(value) if isinstance(value, _PLAIN) else str(value)


def _toml(value: Any) -> str:
    """Return a value in TOML's syntax; strings are those of JSON, except for one character that TOML escapes too."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _from_anywhere(path: Path) -> str:
    """Return a place that is the same from any folder: absolute paths, also of several joined by ``::``."""
    return "::".join(_absolute(part) for part in str(path).split("::"))


def _absolute(place: str) -> str:
    return place if _ADDRESS.match(place) else str(Path(place).absolute())
