"""The options of a command as data, read from the signature of its ``main``: tyro parses the same signature."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from docstring_parser import parse as parse_docstring
from tyro.conf import Positional

REQUIRED: Any = MISSING  # the default of an option that has none
LONGEST = 48  # columns of choices that stand for a value in help
#: What stands for a value in help, by the type of the value, and by the name of the option where that says more.
_BY_TYPE = {"int": "N", "float": "NUMBER", "Path": "PATH", "str": "NAME"}
_BY_NAME = {
    "batches": "LIST",
    "calibration": "DIR",
    "checkpoint": "FILE",
    "config": "FILE",
    "credit": "TEXT",
    "csv": "FILE",
    "data": "DIR",
    "drop_path": "RATE",
    "features": "FILE",
    "dtypes": "LIST",
    "dynamic": "LIST",
    "format": "LIST",
    "formats": "LIST",
    "forms": "LIST",
    "host": "ADDRESS",
    "lr": "RATE",
    "mask_suffix": "TEXT",
    "mode": "LIST",
    "models": "LIST",
    "out": "DIR",
    "plot": "FILE",
    "query": "ROW COLUMN",
    "reference_size": "PIXELS",
    "size": "PIXELS",
    "sizes": "LIST",
    "stride": "PIXELS",
    "track": "LIST",
    "val_fraction": "SHARE",
    "what": "LIST",
    "window": "PIXELS",
}


@dataclass(frozen=True)
class Option:
    """A word that a command takes.

    Attributes:
        name: of the field or parameter.
        flag: ``--batch-size``; for a positional word what stands for it in help.
        positional: whether it is given by its place, without a flag.
        kinds: types of one value, beside the choices; bool for a switch, which takes none.
        choices: values that it can have.
        values: how many it takes: a number, or None for any number.
        metavar: what stands for the values in help; empty for a switch.
        default: REQUIRED if there is none.
        help: what it does.
    """

    name: str
    flag: str
    positional: bool
    kinds: tuple[type, ...]
    choices: tuple[str, ...]
    values: int | None
    metavar: str
    default: Any
    help: str

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value."""
        return self.kinds == (bool,)

    @property
    def is_required(self) -> bool:
        """Whether the command cannot run without it; a list by place may be empty."""
        return self.default is REQUIRED and not (self.positional and self.values is None)


def description_of(command: Callable[..., None]) -> str:
    """Return what a command does: its docstring without the parts about arguments."""
    return parse_docstring(inspect.getdoc(command) or "").description or ""


def options_of(command: Callable[..., None]) -> list[Option]:
    """Return the options of a command in the order of its signature, those of a dataclass where that stands."""
    hints, documented = get_type_hints(command, include_extras=True), _documented(command)
    found: list[Option] = []
    for name, parameter in inspect.signature(command).parameters.items():
        kind, extras = _unwrapped(hints[name])
        if is_dataclass(kind):
            found += _fields_of(kind)
        else:
            default = REQUIRED if parameter.default is parameter.empty else parameter.default
            found.append(_option(name, kind, extras, default, documented.get(name, "")))
    return found


def _fields_of(options: Any) -> Iterator[Option]:
    hints, documented = get_type_hints(options, include_extras=True), _documented(options)
    for one in fields(options):
        kind, extras = _unwrapped(hints[one.name])
        default = one.default if one.default_factory is MISSING else one.default_factory()
        yield _option(one.name, kind, extras, default, documented.get(one.name, ""))


def _option(name: str, kind: Any, extras: tuple[Any, ...], default: Any, documented: str) -> Option:
    given = _Given(extras)
    members, values = _one_value(kind)
    choices = tuple(str(choice) for one in members if get_origin(one) is Literal for choice in get_args(one))
    kinds = tuple(one for one in members if get_origin(one) is not Literal)
    positional = Positional in extras
    metavar = given("metavar") or _metavar(name, kinds, choices, values)
    spelled = given("name") or name
    switched_off = kinds == (bool,) and default is True  # tyro makes --no-NAME of it
    flag = metavar if positional else f"--{'no-' * switched_off}{spelled.replace('_', '-')}"
    nargs = given("nargs")
    return Option(
        name=name,
        flag=flag,
        positional=positional,
        kinds=kinds,
        choices=choices,
        values=values if nargs is None else None,
        metavar="" if kinds == (bool,) else metavar,
        default=default,
        help=(given("help") or documented) + _listing(choices),
    )


def _listing(choices: tuple[str, ...]) -> str:
    """Return a sentence of choices that are too many to stand for the value."""
    return f" Known are {', '.join(choices)}." if _are_many(choices) else ""


def _are_many(choices: tuple[str, ...]) -> bool:
    return len(",".join(choices)) > LONGEST


class _Given:
    """What the annotations of an option say about it: those of ``tyro.conf.arg`` and of its constructors."""

    def __init__(self, extras: tuple[Any, ...]) -> None:
        self.extras = extras

    def __call__(self, name: str) -> Any:
        return next((found for one in self.extras if (found := getattr(one, name, None)) is not None), None)


def _unwrapped(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return a type and its annotations."""
    if get_origin(hint) is Annotated:
        kind, *extras = get_args(hint)
        inner, more = _unwrapped(kind)
        return inner, (*more, *extras)
    return hint, ()


def _one_value(kind: Any) -> tuple[tuple[Any, ...], int | None]:
    """Return the types that one value may have, and how many values there are; None for any number.

    An optional type is what it holds.
    """
    kind, _ = _unwrapped(kind)
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        return _one_value(inner[0])[0], None if Ellipsis in inner else len(inner)
    if get_origin(kind) not in (Union, UnionType):
        return (kind,), 0 if kind is bool else 1
    found = [_one_value(one) for one in get_args(kind) if one is not NoneType]
    return tuple(one for members, _ in found for one in members), found[0][1]


def _metavar(name: str, kinds: tuple[type, ...], choices: tuple[str, ...], values: int | None) -> str:
    named = [_BY_NAME.get(name) or _BY_TYPE.get(kind.__name__, "VALUE") for kind in kinds]
    if _are_many(choices):
        return f"{_BY_TYPE['str']} ..." if values is None else _BY_TYPE["str"]
    one = named[0] if named and not choices else f"{{{','.join([*named, *choices])}}}"
    return f"{one} ..." if values is None else one


def _documented(described: Any) -> dict[str, str]:
    """Return the description of each argument or attribute in a docstring, on one line."""
    listed = parse_docstring(inspect.getdoc(described) or "").params
    return {one.arg_name: " ".join((one.description or "").split()) for one in listed}
