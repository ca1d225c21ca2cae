"""``foveal tables``."""

import json
from pathlib import Path

import pytest

from foveal.papers import library, paper_table, paper_tables
from foveal.papers.table import parse

DOCS = Path(__file__).parents[2] / "docs" / "tables.md"


def test_without_a_name_it_lists_the_tables(foveal):
    said = foveal("tables")
    assert said.code == 0
    assert [line.split()[0] for line in said.out.splitlines()] == paper_tables()
    assert max(map(len, said.out.splitlines())) <= 80
    assert [one["name"] for one in json.loads(foveal("tables", "--json").out)] == paper_tables()
    assert foveal("tables", "--format", "csv").out.splitlines()[1] == (
        "transnext.imagenet,1,ImageNet-1K and robustness test sets"
    )
    assert foveal("tables", "--format", "markdown").out.splitlines()[2].startswith("| `transnext.imagenet` | 1 |")


def test_a_table_shows_the_papers_figures(foveal):
    said = foveal("tables", "transnext.conv_glu")
    assert said.code == 0
    assert "* ConvGLU       2.3     0.5     82.9" in said.out.splitlines()
    assert "  Type-3        2.3     0.5     82.1" in said.out.splitlines()


def test_a_pattern_shows_several_tables(foveal):
    said = foveal("tables", "*.variants", "--json")
    assert [one["name"] for one in json.loads(said.out)] == ["transnext.variants", "transxnet.variants"]
    said = foveal("tables", "*.variants", "--format", "csv")
    assert said.code == 1
    assert said.is_one_sentence("CSV holds one table", "'*.variants' names 2")


def test_an_unknown_table_is_answered_with_near_names(foveal):
    said = foveal("tables", "transxnet.eficiency")
    assert said.code == 1
    assert said.is_one_sentence("did you mean transxnet.efficiency")


def test_counting_needs_a_table(foveal):
    said = foveal("tables", "--count")
    assert said.code == 1
    assert said.is_one_sentence("Name the tables to count")


@pytest.mark.parametrize(
    ("name", "row", "column", "counted"),
    [
        ("transnext.token_mixers", "A-A-A-A", "params_m", 13.114),
        ("transnext.token_mixers", "A-A-A-M", "macs_g", 2.664),
        ("transxnet.imagenet_384", "TransXNet-B", "macs_g", 24.19),
    ],
)
def test_counts_stand_beside_the_papers_figures(foveal, name, row, column, counted):
    said = foveal("tables", name, "--count", "--json")
    assert said.code == 0
    found = next(one for one in json.loads(said.out)[0]["rows"] if one["row"] == row)["counted"][column]
    assert found["value"] == pytest.approx(counted, abs=5e-3)
    assert found["agrees"]


def test_heads_are_counted_with_their_levels(foveal):
    """47.8 M and 48.1 M for one backbone: DINO on four levels and on five."""
    said = foveal("tables", "transnext.coco_dino", "--count", "--json")
    tiny = [one["counted"]["params_m"] for one in json.loads(said.out)[0]["rows"] if one["row"] == "TransNeXt-Tiny"]
    assert [round(one["value"], 1) for one in tiny] == [47.8, 48.1]
    assert [one["agrees"] for one in tiny] == [True, True]


def test_a_difference_without_a_reason_fails_and_one_with_a_reason_does_not(foveal, monkeypatch, tmp_path):
    text = "# title: T\n# paper: TransNeXt\n# table: 0\n# source: S\n# ours: *\n# count params_m: params\n{}"
    text += "row,model,params_m\nMicro,transnext_micro.in1k,12.7\n"
    for reason, code in (("", 1), ("# reason params_m of Micro: it is wrong\n", 0)):
        table = parse("wrong", text.format(reason))
        monkeypatch.setattr("foveal.cli.tables.paper_table", lambda name, table=table: table)
        said = foveal("tables", "wrong", "--count")
        assert said.code == code
        assert "params M of Micro: 12.7 printed, 12.809 counted" in " ".join(said.out.split())


@pytest.mark.parametrize("name", [name for name in paper_tables() if paper_table(name).counts])
def test_counts_of_all_tables_agree_or_are_explained(foveal, name):
    assert foveal("tables", name, "--count").code == 0


def test_the_page_of_tables_is_what_the_command_prints(foveal):
    first, _, rest = DOCS.read_text().partition("\n")
    assert "foveal tables '*' --format markdown" in first
    printed = foveal("tables", "*", "--format", "markdown").out
    assert rest.endswith(printed)


def test_the_files_are_part_of_the_package():
    """Declared in pyproject.toml: an installed copy has them."""
    declared = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert '"foveal.papers" = ["tables/*.csv"]' in declared
    assert all((library._FOLDER / f"{name}.csv").exists() for name in paper_tables())
