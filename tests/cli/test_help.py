"""Help of every command, and what is said about words that do not fit."""

import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro
from tyro.conf import Positional, arg

from foveal.cli.app import COMMANDS
from foveal.cli.console import Exit, UsageError, parse
from foveal.cli.headings import HEADINGS, OTHERS
from foveal.cli.signature import options_of

FEW = 8  # options that need no headings


@dataclass(frozen=True, kw_only=True)
class Cake:
    """A cake.

    Attributes:
        weight: Grams of all that goes into the cake, which is more than the cake weighs when it has left the oven and
            cooled down.
        flavour: What it tastes of.
        layers: Heights in centimetres.
        candles: One for each year; none by default.
        slices: How many, or as many as there are guests.
        out: Where it is put.
        iced: Cover it.
        plate: Serve it on one.
    """

    weight: int
    flavour: Literal["lemon", "chocolate"] = "lemon"
    layers: tuple[float, ...] = ()
    candles: int | None = None
    slices: int | Literal["guests"] | None = None
    out: Path | None = None
    iced: bool = False
    plate: bool = True


def bake(
    guests: Annotated[Positional[tuple[str, ...]], arg(metavar="GUEST...")],
    cake: Annotated[Cake, arg(name="")],
    *,
    oven: int = 180,
) -> None:
    """Bake a cake.

    It takes an hour.

    Args:
        guests: Those who eat it.
        oven: Degrees.
    """


HELP = """\
usage: foveal bake GUEST... --weight N [OPTIONS]

Bake a cake.

It takes an hour.

Arguments:
  GUEST...                Those who eat it.

Options:
  --weight N              Grams of all that goes into the cake, which is more
                          than the cake weighs when it has left the oven and
                          cooled down. (required)
  --flavour {lemon,chocolate}
                          What it tastes of. (default: lemon)
  --layers NUMBER ...     Heights in centimetres.
  --candles N             One for each year; none by default.
  --slices {N,guests}     How many, or as many as there are guests.
  --out DIR               Where it is put.
  --iced                  Cover it.
  --no-plate              Serve it on one.
  --oven N                Degrees. (default: 180)
"""


def help_of(name: str, capsys) -> str:
    with pytest.raises(Exit) as leave:
        parse(import_module(COMMANDS[name][0]).main, f"foveal {name}", ["--help"])
    assert leave.value.code == 0
    return capsys.readouterr().out


def test_help_says_what_each_word_is_and_which_default_it_has(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(Exit):
        parse(bake, "foveal bake", ["--help"])
    assert capsys.readouterr().out == HELP


@pytest.mark.parametrize("columns", [72, 80, 250])
@pytest.mark.parametrize("name", COMMANDS)
def test_no_line_of_help_is_wider_than_the_terminal_or_than_one_can_read(name, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = help_of(name, capsys).splitlines()
    assert [line for line in lines if len(line) > min(columns, 100)] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_no_types_and_no_defaults_of_the_language(name, capsys):
    said = help_of(name, capsys)
    assert re.findall(r"\((?:default: (?:None|False|True|\(\))?)\)|\b(?:INT|FLOAT|STR|BOOL)\b|\[bold\]", said) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_exactly_the_options_that_the_parser_takes(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")  # tyro's own help breaks no name then
    ours = set(re.findall(r"^  (--[a-z][a-z-]*)", help_of(name, capsys), re.MULTILINE))
    with pytest.raises(SystemExit):
        tyro.cli(
            import_module(COMMANDS[name][0]).main,
            args=["--help"],
            config=(tyro.conf.DisallowNone, tyro.conf.FlagCreatePairsOff),
        )
    parsers = set(re.findall(r"^[│|]? *(--[a-z][a-z-]*)", capsys.readouterr().out, re.MULTILINE))
    assert ours == parsers - {"--help"}
    assert ours


@pytest.mark.parametrize("name", COMMANDS)
def test_many_options_are_under_headings_and_each_under_one(name):
    options = [one.name for one in options_of(import_module(COMMANDS[name][0]).main) if not one.positional]
    listed = [member for members in HEADINGS.get(name, {}).values() for member in members]
    if len(options) > FEW or listed:
        assert sorted(listed) == sorted(options)


def test_no_heading_is_that_of_options_without_one():
    assert OTHERS not in {heading for headings in HEADINGS.values() for heading in headings}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--weight", "heavy"], "--weight takes a whole number, not 'heavy'"),
        (["--weight", "1.5"], "--weight takes a whole number, not '1.5'"),
        (["--weight"], "--weight takes a whole number, and there is none"),
        (["--weight", "--iced"], "--weight takes a whole number, and there is none"),
        (["--weight=heavy"], "--weight takes a whole number, not 'heavy'"),
        (["--weight", "5", "--layers", "-2", "wide"], "--layers takes numbers, not 'wide'"),
        (
            ["--weight", "5", "--flavour", "lemmon"],
            "--flavour takes lemon or chocolate, not 'lemmon', did you mean lemon",
        ),
        (
            ["--weight", "5", "--slices", "gests"],
            "--slices takes a whole number or guests, not 'gests', did you mean guests",
        ),
        (["--weight", "5", "--flavour", "fish"], "--flavour takes lemon or chocolate, not 'fish'"),
        (["--wieght", "5"], "There is no option --wieght, did you mean --weight"),
        (["--weight", "5", "--ice_d"], "There is no option --ice_d, did you mean --iced"),
        (["--weight", "5", "--frosted"], "There is no option --frosted"),
        (["--iced"], "--weight N is missing"),
        ([], "--weight N is missing"),
    ],
)
def test_what_is_wrong_with_the_words_is_one_sentence(words, sentence):
    with pytest.raises(UsageError) as error:
        parse(bake, "foveal bake", words)
    assert str(error.value) == f"{sentence}: see `foveal bake --help`."


def test_a_switch_takes_no_value():
    def command(cake: Annotated[Cake, arg(name="")]) -> None: ...

    with pytest.raises(UsageError, match=r"^--iced takes no value: see `foveal try --help`\.$"):
        parse(command, "foveal try", ["--weight", "5", "--iced=yes"])


def test_words_that_fit_are_bound_and_nothing_runs_yet():
    baked = []

    def command(cake: Annotated[Cake, arg(name="")]) -> None:
        baked.append(cake)

    run = parse(command, "foveal try", ["--weight", "5", "--layers", "-1", "2.5", "--no-plate", "--slices", "guests"])
    assert not baked
    run()
    assert baked == [Cake(weight=5, layers=(-1.0, 2.5), plate=False, slices="guests")]
