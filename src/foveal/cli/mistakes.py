"""What is wrong with the words of a command line that tyro rejects, in one sentence."""

from collections.abc import Iterator, Sequence

from foveal.cli.signature import Option
from foveal.near import did_you_mean, listed

_IN_WORDS = {"int": "a whole number", "float": "a number", "Path": "a path"}


def mistake(words: Sequence[str], options: Sequence[Option]) -> str | None:
    """Return the first mistake in ``words``, without a full stop; None if none is found.

    Args:
        words: after the name of the command.
        options: those that the command takes.
    """
    by_flag = {one.flag: one for one in options if not one.positional}
    given = list(_given(words))
    for typed, values, joined in given:
        flag = typed.replace("_", "-")
        if flag not in by_flag:
            return f"There is no option {typed}{did_you_mean(flag, by_flag)}"
        if joined and by_flag[flag].is_switch:
            return f"{flag} takes no value"
        wrong = _wrong_value(by_flag[flag], values)
        if wrong:
            return wrong
    return _missing(options, [typed.replace("_", "-") for typed, *_ in given], words)


def _given(words: Sequence[str]) -> Iterator[tuple[str, list[str], bool]]:
    """Yield each flag, the words up to the next one, which are its values and may be others' too, and whether the first
    of them is joined to it, as in ``--epochs=3``."""
    at = [index for index, word in enumerate(words) if _is_flag(word)]
    for start, end in zip(at, [*at[1:], len(words)]):
        flag, equals, value = words[start].partition("=")
        yield flag, [*([value] if equals else []), *words[start + 1 : end]], bool(equals)


def _is_flag(word: str) -> bool:
    """Whether a word is no value: negative numbers are."""
    return word.startswith("-") and len(word) > 1 and not word[1].isdigit() and word[1] != "."


def _wrong_value(one: Option, values: Sequence[str]) -> str | None:
    """Return what is wrong with the values of an option."""
    expected = in_words(one)
    taken = values if one.values is None else values[: one.values]
    if one.values is not None and len(taken) < one.values:
        got = f", not {len(taken)}" if taken else ", and there is none"
        return f"{one.flag} takes {expected}{got}"
    for value in taken:
        if value not in one.choices and not any(_fits(value, kind) for kind in one.kinds):
            return f"{one.flag} takes {expected}, not {value!r}{did_you_mean(value, one.choices, most=1)}"
    return None


def in_words(one: Option) -> str:
    """Return what an option takes: "a whole number", "2 whole numbers", "fp32 or bf16", "a whole number or auto"."""
    single = [_IN_WORDS.get(kind.__name__, "a value") for kind in one.kinds]
    if one.values == 1:
        return listed([*single, *one.choices])
    if one.choices:
        return f"one or more of {', '.join(one.choices)}"
    plural = f"{single[0].removeprefix('a ')}s"
    return plural if one.values is None else f"{one.values} {plural}"


def _fits(value: str, kind: type) -> bool:
    try:
        kind(value)
    except ValueError:
        return False
    return True


def _missing(options: Sequence[Option], flags: Sequence[str], words: Sequence[str]) -> str | None:
    """Return what the command cannot run without and was not given."""
    for one in options:
        absent = not words if one.positional else one.flag not in flags
        if one.is_required and absent:
            return f"{one.metavar} is missing" if one.positional else f"{one.flag} {one.metavar} is missing"
    return None
