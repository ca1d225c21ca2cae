"""The tables as data: their files, the values of their cells, and their names."""

import ast
import sys
from pathlib import Path

import pytest
import timm

import foveal.papers
from foveal.errors import FovealError
from foveal.papers import Figure, paper_table, paper_tables
from foveal.papers.table import parse

PACKAGE = Path(foveal.papers.__file__).parent
FILES = sorted((PACKAGE / "tables").glob("*.csv"))


def test_every_file_is_a_table_and_every_table_a_file():
    assert sorted(paper_tables()) == [file.stem for file in FILES]


@pytest.mark.parametrize("name", paper_tables())
def test_a_table_says_what_it_is(name):
    table = paper_table(name)
    assert table.name == name
    assert table.paper == {"transnext": "TransNeXt", "transxnet": "TransXNet"}[name.partition(".")[0]]
    assert table.title
    assert table.source.startswith("arXiv:2311.17132" if table.paper == "TransNeXt" else "arXiv:2310.19380")
    assert table.number


def test_table_numbers_follow_the_papers():
    numbers = [(paper_table(name).paper, paper_table(name).number) for name in paper_tables()]
    roman = ["I", "II", "III", "IV", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI"]
    arabic = ["1", "2", "3", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15"]
    assert numbers == [("TransNeXt", n) for n in arabic] + [("TransXNet", n) for n in roman]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_files_have_as_many_cells_in_every_row_and_only_known_keys(file):
    lines = file.read_text(encoding="utf-8").splitlines()
    keys = {line.removeprefix("#").partition(":")[0].strip().partition(" ")[0] for line in lines if line[0] == "#"}
    assert keys <= {"title", "paper", "table", "source", "ours", "key", "count", "reason", "note"}
    assert {"title", "paper", "table", "source", "ours"} <= keys
    table = paper_table(file.stem)
    columns = {column.name for column in table.columns}
    assert all(set(row.figures) == columns for row in table.rows)
    assert all(figure.printed == figure.printed.strip() for row in table.rows for figure in row.figures.values())
    assert {*table.keys, *table.counts, *(column for column, _, _ in table.reasons)} <= columns


@pytest.mark.parametrize("name", paper_tables())
def test_numbers_are_numbers(name):
    """Words stand only in columns of words, but for OOM, which a table prints for an accuracy."""
    table = paper_table(name)
    for row in table.rows:
        for column in table.columns:
            figure = row.figures[column.name]
            if not column.is_text and figure.printed not in ("", "?", "OOM"):
                assert isinstance(figure.value, int | float), (row.name, column.name)


@pytest.mark.parametrize("name", paper_tables())
def test_names_and_keys_identify_a_row(name):
    table = paper_table(name)
    found = [(row.name, *(row.figures[key].printed for key in table.keys)) for row in table.rows]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("name", paper_tables())
def test_models_are_registered_and_belong_to_the_paper(name):
    """The roadmap begins with PVT and PVTv2."""
    family = name.partition(".")[0]
    families = (f"{family}_", "pvt_") if name == "transnext.roadmap" else (f"{family}_",)
    for model in paper_table(name).models:
        assert timm.is_model(model)
        assert timm.get_pretrained_cfg(model) is not None, "no such tag"
        assert model.startswith(families)


@pytest.mark.parametrize("name", paper_tables())
def test_every_table_marks_rows_as_ours(name):
    table = paper_table(name)
    assert any(row.is_ours for row in table.rows)
    assert all(row.is_ours for row in table.rows if row.model and ".in1k" in row.model)


@pytest.mark.parametrize("name", paper_tables())
def test_reasons_belong_to_a_row_that_is_counted(name):
    table = paper_table(name)
    for column, pattern, _ in table.reasons:
        assert column in table.counts
        assert any(table.reason(column, row.name) for row in table.rows if row.model), pattern


def test_a_figure_keeps_its_digits():
    assert (Figure("12.80").value, Figure("12.80").decimals) == (12.8, 2)
    assert (Figure("110").value, Figure("110").decimals) == (110, 0)
    assert (Figure("OOM").value, Figure("OOM").number, Figure("OOM").decimals) == ("OOM", None, None)
    assert Figure("").value is Figure("?").value is None
    assert Figure("0.5", is_text=True).value == "0.5"


def test_a_figure_agrees_with_what_rounds_to_it():
    assert Figure("12.8").agrees(12.809)
    assert not Figure("12.80").agrees(12.809)
    assert Figure("110").agrees(109.95)
    assert not Figure("28.2").agrees(28.259)
    assert not Figure("?").agrees(0.0)


def test_a_small_table_is_read():
    text = "# title: T\n# paper: TransNeXt\n# table: 1\n# source: S\n# ours: b\n# count params_m: params\n"
    text += "# reason params_m of b*: because\nrow,model,params_m,top1\na,,1,\nb,transnext_atto,1.20,?\n"
    table = parse("small", text)
    assert [row.is_ours for row in table.rows] == [False, True]
    assert [row.number("params_m") for row in table.rows] == [1, 1.2]
    assert table.rows[0].number("miou") is None
    assert table.models == {"transnext_atto": table.rows[1]}
    assert table.reason("params_m", "b") == "because"
    assert table.reason("params_m", "a") is table.reason("top1", "b") is None


def test_an_unknown_name_is_answered_with_near_ones():
    with pytest.raises(FovealError, match=r"no table 'transnext\.imagnet', did you mean transnext\.imagenet, "):
        paper_table("transnext.imagnet")
    with pytest.raises(FovealError, match="`foveal tables` lists them"):
        paper_table("xyz")


@pytest.mark.parametrize("file", sorted(PACKAGE.glob("*.py")), ids=lambda file: file.name)
def test_the_package_knows_no_library(file):
    """It holds data, so neither torch nor another library is imported in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            assert {alias.name.partition(".")[0] for alias in node.names} <= set(sys.stdlib_module_names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            assert node.module.partition(".")[0] in {"foveal", *sys.stdlib_module_names}
