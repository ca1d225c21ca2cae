"""``foveal tables``: the results tables of both papers, and their sizes and costs counted again."""

import csv
import io
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from foveal.cli.console import FAILED, Exit, Json, print_json, progress
from foveal.errors import FovealError
from foveal.papers import PaperTable, paper_table, paper_tables
from foveal.papers.comparison import Counted, compare
from foveal.papers.layout import as_csv, as_markdown, as_text, document

Format = Literal["text", "markdown", "csv"]


def main(
    name: Annotated[Positional[str], arg(metavar="NAME")] = "",
    *,
    format: Format = "text",
    count: bool = False,
    json: Json = False,
) -> None:
    """The results tables of the TransNeXt and TransXNet papers: our networks, their competitors, all ablations.

    Without a NAME: the list of tables. The figures are the authors' and keep their digits; a question mark stands for
    one that could not be read. With --count the command fails if a count differs from a printed figure and the table
    gives no reason.

    Args:
        name: A table, or several as a shell pattern in quotes.
        format: Text of 80 columns, where wide tables are cut into blocks; Markdown; or CSV of one table.
        count: Count parameters and multiply-adds of our networks again, by the rule of each paper, and compare.
    """
    if not name:
        if count:
            raise FovealError("Name the tables to count, such as `foveal tables transnext.imagenet --count`.")
        _list([paper_table(one) for one in paper_tables()], format, json)
        return
    tables = _matching(name)
    if format == "csv" and len(tables) > 1 and not json:
        raise FovealError(f"CSV holds one table, and {name!r} names {len(tables)}: choose one of `foveal tables`.")
    counts = [_counted(table) if count else {} for table in tables]
    if json:
        print_json([document(table, counted) for table, counted in zip(tables, counts, strict=True)])
    else:
        shape = {"text": as_text, "markdown": as_markdown, "csv": as_csv}[format]
        print("\n".join(shape(table, counted) for table, counted in zip(tables, counts, strict=True)), end="")
    if any(_differs(table, counted) for table, counted in zip(tables, counts, strict=True)):
        raise Exit(FAILED)


def _matching(pattern: str) -> list[PaperTable]:
    names = [name for name in paper_tables() if fnmatchcase(name, pattern)]
    return [paper_table(name) for name in names or [pattern]]


def _counted(table: PaperTable) -> Counted:
    from foveal.cli.table_counts import count_table  # imports detectors, which a list of tables need not wait for

    with progress(f"Counting {table.name}") as on_cell:
        return count_table(table, on_cell)


def _differs(table: PaperTable, counted: Counted) -> bool:
    return any(one.is_unexplained for cells in compare(table, counted) for one in cells)


def _list(tables: Sequence[PaperTable], format: Format, json: bool) -> None:
    rows = [(table.name, table.number, table.title) for table in tables]
    if json:
        print_json([dict(zip(("name", "table", "title"), row)) for row in rows])
    elif format == "csv":
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([("name", "table", "title"), *rows])
        print(out.getvalue(), end="")
    elif format == "markdown":
        print("| table | in the paper | shows |\n| --- | --- | --- |")
        print("\n".join(f"| `{name}` | {number} | {title} |" for name, number, title in rows))
    else:
        name_width, number_width = (max(len(row[i]) for row in rows) for i in (0, 1))
        print("\n".join(f"{name:<{name_width}}  {number:>{number_width}}  {title}" for name, number, title in rows))
