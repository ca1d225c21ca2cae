"""Known names near to a mistyped one, for the sentences that reject it."""

import difflib
from collections.abc import Iterable, Sequence

MOST = 3  # names in a sentence


def did_you_mean(name: str, known: Iterable[str], most: int = MOST) -> str:
    """Return ``, did you mean A, B or C`` with the known names nearest to ``name``, best first; ``""`` if none is near.

    Upper and lower case are the same, and so are hyphens and underscores.
    """
    names = {_plain(one): one for one in reversed([*known])}
    near = [names[one] for one in difflib.get_close_matches(_plain(name), names, n=most)]
    return f", did you mean {listed(near)}" if near else ""


def listed(names: Sequence[str]) -> str:
    """Return ``A, B or C``."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def _plain(name: str) -> str:
    return name.casefold().replace("-", "_").strip("_")  # the hyphens before an option would make all of them near
