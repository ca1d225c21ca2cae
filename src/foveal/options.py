"""Options declared once: a field of a dataclass carries its default and its help.

The command line, the listing of a run and the tables in the documentation are made from these declarations.
"""

from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field, fields
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

HELP, ON_COMMAND_LINE = "help", "on_command_line"


def option(
    default: Any = MISSING, *, help: str, factory: Callable[[], Any] | None = None, tasks: tuple[str, ...] = ()
) -> Any:
    """Declare a field that recipes, Python and the command line can set.

    Args:
        default: Value unless something else is given.
        help: One sentence.
        factory: Creates the default of a mutable type.
        tasks: The tasks that take it; all if empty.
    """
    return _declare(default, help, factory, on_command_line=True, tasks=tasks)


def setting(default: Any = MISSING, *, help: str, factory: Callable[[], Any] | None = None) -> Any:
    """Declare a field that recipes and Python can set; arguments as in ``option``."""
    return _declare(default, help, factory, on_command_line=False, tasks=())


def _declare(
    default: Any, help: str, factory: Callable[[], Any] | None, on_command_line: bool, tasks: tuple[str, ...]
) -> Any:
    metadata = {HELP: help, ON_COMMAND_LINE: on_command_line, "tasks": tasks}
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Declaration:
    """A declared field as other places read it."""

    name: str
    type: Any
    default: Any
    help: str
    on_command_line: bool
    tasks: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """The option on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def values(self) -> str:
        """The type in words: ``int``, or the choices of a ``Literal``."""
        return _in_words(self.type)


def declarations(settings: type) -> Iterator[Declaration]:
    """Yield the fields of a dataclass that were declared by ``option`` or ``setting``, in order."""
    types = get_type_hints(settings)
    for one in fields(settings):
        if HELP in one.metadata:
            default = one.default if one.default_factory is MISSING else one.default_factory()
            yield Declaration(one.name, types[one.name], default, **one.metadata)


def _in_words(kind: Any) -> str:
    choices = [choice for choice in get_args(kind) if choice is not type(None)]
    if choices and all(isinstance(choice, str) for choice in choices):
        return " | ".join(choices)
    if len(choices) == 1:
        return _in_words(choices[0])
    if get_origin(kind) in (Union, UnionType):
        return " | ".join(map(_in_words, choices))
    return str(kind) if choices else kind.__name__
