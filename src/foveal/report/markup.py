"""HTML that escapes by default: text becomes markup only through `el`, and every `str` given to it is escaped."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable
from typing import TypeAlias


class Html(str):
    """Markup that is safe to place in a page as it stands."""

    __slots__ = ()


Child: TypeAlias = "Html | str | Iterable[Child] | None"

VOID = frozenset({"img", "meta", "br", "hr", "link"})  # elements without an end tag


def el(tag: str, *children: Child, **attributes: object) -> Html:
    """One element. Plain strings are escaped, `Html` is kept, iterables are flattened, None is left out.

    Attribute names lose a trailing underscore (`class_`) and turn inner ones into dashes (`aria_label`); an attribute
    that is None or False is left out, one that is True stands alone.
    """
    opening = f"<{tag}{''.join(_attribute(name, value) for name, value in attributes.items())}>"
    return Html(opening if tag in VOID else f"{opening}{join(children)}</{tag}>")


def join(children: Iterable[Child]) -> Html:
    """The children one after another, escaped as `el` does."""
    return Html("".join(_child(child) for child in children))


def data_uri(content: bytes, mime: str = "image/png") -> str:
    """The bytes as an address that needs no request."""
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"


def _child(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    return html.escape(child) if isinstance(child, str) else join(child)


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'
