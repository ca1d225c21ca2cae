"""Tables as text, Markdown and CSV."""

import csv
import io

import pytest

from foveal.papers import paper_table, paper_tables
from foveal.papers.comparison import compare
from foveal.papers.layout import as_csv, as_markdown, as_text, document
from foveal.papers.table import parse

SMALL = parse(
    "small",
    """# title: A small table
# paper: TransNeXt
# table: 0
# source: nowhere
# ours: ours*
# count params_m: params
# count macs_g: macs
# reason macs_g of ours: counted otherwise
# note: A note.
row,model,params_m,macs_g,top1
theirs,,110,1.25,80.1
ours,transnext_atto,12.8,2.5,?
""",
)


def lines(text: str) -> list[str]:
    return text.splitlines()


def test_text_aligns_decimal_points_and_marks_our_rows():
    assert lines(as_text(SMALL))[3:6] == [
        "          params M  MACs G  top-1 %",
        "  theirs     110      1.25     80.1",
        "* ours        12.8    2.5         ?",
    ]


def test_counts_stand_beside_the_figures_with_one_digit_more():
    text = lines(as_text(SMALL, {(1, "params_m"): 12.8349, (1, "macs_g"): 2.75}))
    assert text[3:6] == [
        "          params M  counted  MACs G  counted  differs  top-1 %",
        "  theirs     110               1.25                       80.1",
        "* ours        12.8    12.83    2.5      2.75    +0.25        ?",
    ]
    assert "MACs G of ours: 2.5 printed, 2.750 counted: counted otherwise." in text


def test_a_difference_is_explained_only_by_a_reason_for_its_cell():
    counted = {(1, "params_m"): 13.0, (1, "macs_g"): 2.75}
    params, macs = compare(SMALL, counted)[1]
    assert (params.agrees, params.is_unexplained, macs.agrees, macs.is_unexplained) == (False, True, False, False)
    assert compare(SMALL, counted)[0] == []
    assert "no reason is known" in as_text(SMALL, counted)


@pytest.mark.parametrize("name", paper_tables())
def test_text_has_at_most_80_columns(name):
    """With counts too: all cells that could be counted, with many digits and no agreement."""
    table = paper_table(name)
    counted = {(i, column): 99999.9 for i, row in enumerate(table.rows) if row.model for column in table.counts}
    for text in (as_text(table), as_text(table, counted)):
        assert max(map(len, lines(text))) <= 80


@pytest.mark.parametrize("name", paper_tables())
def test_blocks_repeat_the_names_and_show_every_figure_once(name):
    table = paper_table(name)
    blocks = as_text(table).split("\n\n")[1:-1]
    for block in blocks:
        body = lines(block)[1:]
        assert [line[2:].startswith(row.name) for line, row in zip(body, table.rows, strict=True)] == [True] * len(body)
    for index, row in enumerate(table.rows):
        shown = " ".join(lines(block)[1 + index][2:].removeprefix(row.name) for block in blocks).split()
        keys = [row.figures[key].printed for key in table.keys]
        rest = [figure.printed for column, figure in row.figures.items() if column not in table.keys]
        assert sorted(shown) == sorted(" ".join([*keys * len(blocks), *rest]).split())


@pytest.mark.parametrize("name", paper_tables())
def test_csv_and_json_are_complete(name):
    table = paper_table(name)
    records = list(csv.DictReader(io.StringIO(as_csv(table))))
    rows = document(table)["rows"]
    for row, record, one in zip(table.rows, records, rows, strict=True):
        printed = {column: figure.printed for column, figure in row.figures.items()}
        assert eval(f"dict({record.pop('arguments')})") == row.arguments == one["arguments"]
        assert (record.pop("peer") or None) == row.peer == one["peer"]
        assert record == {"row": row.name, "model": row.model or "", "ours": str(int(row.is_ours)), **printed}
        assert one["printed"] == printed
        assert one["values"] == {column: figure.value for column, figure in row.figures.items()}
        assert (one["row"], one["model"], one["ours"]) == (row.name, row.model, row.is_ours)


def test_csv_and_json_hold_counts_and_differences():
    counted = {(1, "params_m"): 12.8349, (1, "macs_g"): 2.75}
    record = list(csv.DictReader(io.StringIO(as_csv(SMALL, counted))))[1]
    assert (record["params_m_counted"], record["params_m_difference"]) == ("12.8349", "0.0349")
    found = document(SMALL, counted)["rows"][1]["counted"]
    assert found["params_m"]["agrees"] is True
    assert found["macs_g"] == {"value": 2.75, "difference": 0.25, "agrees": False, "reason": "counted otherwise"}


def test_markdown_is_one_table_with_our_rows_bold():
    assert lines(as_markdown(SMALL)) == [
        "## small",
        "",
        "A small table. TransNeXt, table 0, nowhere.",
        "",
        "| row | params M | MACs G | top-1 % |",
        "| --- | ---: | ---: | ---: |",
        "| theirs | 110 | 1.25 | 80.1 |",
        "| **ours** | **12.8** | **2.5** | **?** |",
        "",
        "- A note.",
    ]
