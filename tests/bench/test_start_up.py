"""The benchmark of a run's start opens valid data of every task, and divides times of the same round."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from foveal.tasks.recipes import get_recipe
from foveal.tasks.registry import task_class

FILE = Path(__file__).parents[2] / "benchmarks" / "start_up.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("start_up", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["start_up"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_the_data_of_each_task_is_complete(benchmark, tmp_path, task):
    name, write = benchmark.DATA[task]
    write(tmp_path, 60)
    recipe = get_recipe(name)
    train, val = task_class(recipe.kind).open_images(recipe, tmp_path)
    assert (len(train), len(val)) == (40, 20)
    assert len(train.classes) == 20
    assert [*train.notices, *val.notices] == []


def test_ratios_are_of_the_same_round(benchmark):
    """A machine that becomes ten times slower in the third round changes no ratio."""
    rows = [[1.0, 1.1], [1.0, 1.1], [10.0, 11.0]]
    heading, line = benchmark.report({("detection", "open"): rows}, ["before", "here"])
    assert heading.split() == ["task", "measure", "before", "here", "ratio"]
    assert line.split() == ["detection", "open", "1.00", "s", "1.10", "s", "1.10"]


def test_checkouts_take_turns_and_the_first_round_is_not_counted(benchmark, monkeypatch):
    calls = []
    monkeypatch.setattr(benchmark, "MEASURES", {"open": lambda *words: calls.append(words[0]) or len(calls)})
    before, here = Path("before"), Path("here")
    found = benchmark.compare([before, here], {"detection": Path("data")}, ["open"], rounds=2)
    assert calls == [here, before, before, here, here, before]
    assert found == {("detection", "open"): [[3, 4], [6, 5]]}


def test_the_command_measures_this_checkout(benchmark, capsys):
    benchmark.main(["--images", "120", "--rounds", "1", "--tasks", "classification"])
    first, _, *rows = capsys.readouterr().out.splitlines()
    assert first.startswith("120 images")
    assert [re.sub(r"[\d.]+", "N", row).split() for row in rows] == [
        ["classification", "open", "N", "s"],
        ["classification", "dry-run", "N", "s"],
    ]
