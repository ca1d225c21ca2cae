"""Options are declared once and used by recipes and the command line."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from foveal.cli.console import UsageError, parse
from foveal.cli.options import given, only_for, overrides_of, refuse_others
from foveal.options import declarations, option, setting


@dataclass(frozen=True)
class Settings:
    steps: int = option(5, help="Number of steps.")
    mode: Literal["slow", "fast"] = option("slow", help="Speed.")
    fused: bool = option(False, help="Use fused kernels.")
    rate: float | None = option(None, help="Rate.")
    names: dict[str, int] = setting(factory=dict, help="Names.")
    plain: int = 3


@dataclass(frozen=True)
class Options:
    fused: bool = field(default=False, metadata=only_for("segmentation"))


def test_declarations_are_read_in_order():
    found = {one.name: (one.flag, one.values, one.default, one.help) for one in declarations(Settings)}
    assert found == {
        "steps": ("--steps", "int", 5, "Number of steps."),
        "mode": ("--mode", "slow | fast", "slow", "Speed."),
        "fused": ("--fused", "bool", False, "Use fused kernels."),
        "rate": ("--rate", "float", None, "Rate."),
        "names": ("--names", "dict[str, int]", {}, "Names."),
    }
    assert Settings() == Settings(5, "slow", False, None, {}, 3)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {}),
        (["--steps", "5", "--fused"], {"steps": 5, "fused": True}),
        (["--mode", "fast", "--rate", "0.5"], {"mode": "fast", "rate": 0.5}),
    ],
)
def test_only_given_options_override(words, expected):
    found = []

    def command(options: overrides_of(Settings)) -> None:
        found.append(given(options))

    parse(command, "foveal try", [word.replace("--", "--options.") for word in words])()
    assert found == [expected]


def test_recipe_settings_are_not_command_line_options():
    assert list(overrides_of(Settings).__dataclass_fields__) == ["steps", "mode", "fused", "rate"]


def test_an_option_of_other_tasks_is_rejected():
    options = Options(fused=True)
    refuse_others(options, "segmentation", "this is")
    with pytest.raises(UsageError, match="--fused is for segmenters, and this is a classifier: leave it out"):
        refuse_others(options, "classification", "this is")
