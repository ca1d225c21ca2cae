"""A table of results: mean and deviation of each row beside the paper's figure, and the difference to its own row."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from foveal.ablation.plan import TableRun
from foveal.ablation.results import Result
from foveal.ablation.statistics import LEVEL, Sample, holm, welch
from foveal.papers import Row

FIGURES = ("top1_cifar", "top1")  # of the paper; the first that a table has


@dataclass(frozen=True)
class SummaryRow:
    """One row of the results.

    Attributes:
        row: its name to type; ``name`` the paper's.
        is_reference: it is the paper's own network, which others are compared with.
        values: top-1 after the last epoch in percent, by seed.
        sample: their mean and deviation; None before the first run has ended.
        paper: the paper's figure as printed; "" without one.
        difference: to the mean of the reference in percentage points; None without one.
        p_value: of Welch's t-test, corrected by Holm's method; None if it could not be made.
        note: the difference in words.
    """

    row: str
    name: str
    is_reference: bool
    values: dict[int, float]
    sample: Sample | None
    paper: str
    difference: float | None = None
    p_value: float | None = None
    note: str = ""

    @property
    def is_significant(self) -> bool:
        """Whether the difference is significant; not if it could not be tested."""
        return self.p_value is not None and self.p_value < LEVEL


@dataclass(frozen=True)
class Summary:
    """The results of a table.

    Attributes:
        table: its name; ``title`` what it shows.
        origin: where the paper has it.
        images: what the networks were trained on, in words.
        epochs: of each run.
        column: heading of the paper's figure.
        seeds: the number of seeds asked for.
        rows: the rows that were run, in the paper's order.
        missing: the number of runs that are not finished.
        notes: sentences that a reader needs.
    """

    table: str
    title: str
    origin: str
    images: str
    epochs: int
    column: str
    seeds: int
    rows: tuple[SummaryRow, ...]
    missing: int
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return the summary in plain types."""
        return asdict(self)


def summarise(plan: TableRun, results: Sequence[Result]) -> Summary:
    """Return the summary of a table from the results of its finished runs."""
    table = plan.table
    column = next((one for one in table.columns if one.name in FIGURES), None)
    rows = _compared([_row(one.slug, one.row, results, None if column is None else column.name) for one in plan.rows])
    train = plan.recipe(plan.runs[0]).train
    return Summary(
        table=table.name,
        title=table.title,
        origin=f"{table.paper}, table {table.number}",
        images="scikit-learn's digits" if plan.data is None else str(plan.data),
        epochs=train.total_epochs,
        column="" if column is None else column.meaning.removesuffix(" in percent"),
        seeds=plan.seeds,
        rows=tuple(rows),
        missing=len(plan.runs) - len(results),
        notes=tuple(_notes(plan, rows)),
    )


def _row(slug: str, row: Row, results: Sequence[Result], column: str | None) -> SummaryRow:
    values = {result.seed: result.last for result in results if result.row == slug}
    return SummaryRow(
        row=slug,
        name=row.name,
        is_reference=row.is_ours,
        values=values,
        sample=Sample.of(list(values.values())) if values else None,
        paper="" if column is None else row.figures[column].printed,
    )


def _compared(rows: list[SummaryRow]) -> list[SummaryRow]:
    """Return the rows with their differences to the reference, and p-values corrected for the number of tests."""
    reference = next((row for row in rows if row.is_reference), None)
    if reference is None or reference.sample is None:
        return rows
    samples = {row.row: row.sample for row in rows if row is not reference and row.sample is not None}
    tests = {name: welch(sample, reference.sample) for name, sample in samples.items()}
    made = {name: p for name, p in tests.items() if p is not None}
    corrected = dict(zip(made, holm(list(made.values())), strict=True))

    def compared(row: SummaryRow, sample: Sample, own: Sample) -> SummaryRow:
        p_value = corrected.get(row.row)
        return replace(row, difference=sample.mean - own.mean, p_value=p_value, note=_note(sample, own, p_value))

    own = reference.sample
    return [compared(row, samples[row.row], own) if row.row in samples else row for row in rows]


def _note(one: Sample, reference: Sample, p_value: float | None) -> str:
    seeds = min(one.n, reference.n)
    if seeds == 1:
        return "not tested: one seed has no deviation"
    if p_value is None:
        return "not tested: neither row varies"
    if p_value < LEVEL:
        return f"significant ({_p(p_value)})"
    return f"not significant with {seeds} seeds ({_p(p_value)})"


def _p(value: float) -> str:
    """Return "p = 0.031", or "p < 0.001"."""
    return f"p = {value:.3f}" if value >= 0.001 else "p < 0.001"


def _notes(plan: TableRun, rows: Sequence[SummaryRow]) -> list[str]:
    reference = next((row.row for row in rows if row.is_reference), None)
    compared = (
        "The paper's own row is not among these, so nothing is compared."
        if reference is None
        else f"Differences are to {reference}, in percentage points; p is of Welch's t-test, two-sided, corrected by "
        f"Holm's method for the rows of the table, and significant below {LEVEL:g}."
    )
    notes = [
        "Top-1 after the last epoch, which no choice by validation images improves; +- is the standard deviation over "
        "seeds (n - 1).",
        compared,
    ]
    if plan.data is None:
        notes.append(
            "These are small forms of the networks on 359 validation images of handwritten digits, of which one is "
            "0.28 percentage points: the order of the paper's figures need not show."
        )
    return notes
