"""The summary of a table as text of 80 columns and as Markdown."""

import textwrap

from foveal.ablation.statistics import Sample
from foveal.ablation.summary import Summary, SummaryRow

WIDTH = 80
HEADINGS = ("n", "top-1 %", "paper", "diff.", "p")


def as_text(summary: Summary) -> str:
    """Return the summary in lines of at most 80 characters; an asterisk marks the paper's own network."""
    cells = [_cells(row) for row in summary.rows]
    widths = [max(map(len, column)) for column in zip(HEADINGS, *cells, strict=True)]
    room = WIDTH - sum(widths) - 2 * len(widths) - len("* ")
    lines = [f"{summary.table}: {summary.title}", f"{summary.origin}; {_trained(summary)}", ""]
    lines.append(_line("", HEADINGS, widths, min(room, max(len(row.name) for row in summary.rows)) + 2))
    for row, row_cells in zip(summary.rows, cells, strict=True):
        name = ("* " if row.is_reference else "  ") + textwrap.shorten(row.name, max(room, 8), placeholder="...")
        lines.append(_line(name, row_cells, widths, min(room, max(len(row.name) for row in summary.rows)) + 2))
    own = ["* the paper's own network."] if any(row.is_reference for row in summary.rows) else []
    column = [f"paper: {summary.column}, as printed."] if summary.column else []
    notes = [line for note in [*own, *column, *_notes(summary)] for line in textwrap.wrap(note, WIDTH)]
    return "\n".join([*lines, "", *notes]) + "\n"


def as_markdown(summary: Summary) -> str:
    """Return the summary as a Markdown page; the paper's own network is bold."""
    heads = [
        "row",
        "recipe",
        "n",
        "top-1 %",
        *([summary.column] if summary.column else []),
        "difference",
        "significance",
    ]
    rule = ["---", "---", "---:", "---:", *(["---:"] if summary.column else []), "---:", "---"]
    lines = [heads, rule]
    for row in summary.rows:
        n, mean, paper, difference, _ = _cells(row)
        name = f"**{row.name}**" if row.is_reference else row.name
        note = "reference" if row.is_reference else row.note
        recipe = f"`ablation.{summary.table}.{row.row}`"
        lines.append([name, recipe, n, mean, *([paper] if summary.column else []), difference, note])
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    notes = "\n".join(f"- {note}" for note in _notes(summary))
    return f"## {summary.table}\n\n{summary.title} ({summary.origin}); {_trained(summary)}.\n\n{table}\n\n{notes}\n"


def mean_and_deviation(sample: Sample | None) -> str:
    """Return "96.94 +- 0.28"; the mean alone of one value, and a dash of none."""
    if sample is None:
        return "-"
    return f"{sample.mean:.2f}" + ("" if sample.deviation is None else f" +- {sample.deviation:.2f}")


def _trained(summary: Summary) -> str:
    epochs = f"{summary.epochs} epoch{'s' * (summary.epochs != 1)}"
    return f"trained here for {epochs} on {summary.images}"


def _cells(row: SummaryRow) -> tuple[str, ...]:
    n = "0" if row.sample is None else str(row.sample.n)
    difference = "" if row.difference is None else f"{row.difference:+.2f}"
    p_value = "" if row.difference is None else "-" if row.p_value is None else _p(row.p_value)
    return n, mean_and_deviation(row.sample), row.paper, difference, p_value


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def _line(name: str, cells: tuple[str, ...], widths: list[int], first: int) -> str:
    return f"{name:<{first}}  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _notes(summary: Summary) -> list[str]:
    notes = [*summary.notes]
    if summary.missing:
        are = "is" if summary.missing == 1 else "are"
        notes.insert(0, f"{summary.missing} of {summary.seeds * len(summary.rows)} runs {are} not finished.")
    return notes + _verdict(summary)


def _verdict(summary: Summary) -> list[str]:
    """Return which differences are significant, in one sentence; none if nothing is compared."""
    samples = [row.sample for row in summary.rows if row.sample is not None]
    tested = [row for row in summary.rows if row.difference is not None]
    if not tested:
        return []
    seeds = min(sample.n for sample in samples)
    if seeds == 1 and all(row.p_value is None for row in tested):
        return ["With one seed there is no deviation, and no difference can be tested: run more --seeds."]
    with_seeds = f"with {seeds} seed{'s' * (seeds != 1)}"
    significant = [row.row for row in tested if row.is_significant]
    if not significant:
        return [f"No difference to the paper's own row is significant {with_seeds}."]
    return [f"Significantly different from the paper's own row, {with_seeds}: {', '.join(significant)}."]
