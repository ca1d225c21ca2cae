"""What ``foveal bench`` prints and draws, in a terminal, as JSON, and as a chart."""

from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

from rich.console import Console

from foveal.bench.peers import MARGIN, SIZE
from foveal.bench.plot import draw_bars, draw_growth
from foveal.bench.plot_accuracy import draw_accuracy
from foveal.bench.results import Comparison, Growth, Outcome, comparisons, growth, row
from foveal.bench.tables import comparison_table, growth_table, left_out_lines, remarks, tables
from foveal.cli.console import print_json


@dataclass(frozen=True)
class Report:
    """What was measured, by part, and facts about the machine; ``at_accuracy`` for peers at equal accuracy."""

    outcomes: dict[str, Outcome]
    facts: dict[str, str]
    at_accuracy: bool

    @cached_property
    def comparisons(self) -> list[Comparison]:
        return comparisons(self.outcomes.get("models", Outcome()).results) if self.at_accuracy else []

    @cached_property
    def growths(self) -> dict[str, list[Growth]]:
        """The growth of scaling by what was held fixed: "inference, fp32, batch 1"."""
        results = self.outcomes.get("scaling", Outcome()).results
        groups = groupby(results, key=lambda r: str(r.setting).rpartition(", ")[0])
        grown = {title: growth(list(group)) for title, group in groups}
        return {title: found for title, found in grown.items() if found}


def show(report: Report, plot: Path | None, json: bool) -> None:
    """Draw the chart, if there is a file for it, and print tables or one JSON document."""
    if plot is not None:
        _draw(plot, report)
    if json:
        print_json(_document(report))
    else:
        _print(report)


def _print(report: Report) -> None:
    console = Console(highlight=False)
    for outcome in report.outcomes.values():
        for title, table in tables(outcome.results):
            console.print(title, table, "", sep="\n")
        for line in (*left_out_lines(outcome.left_out), *remarks(outcome.results, report.facts)):
            console.print(line, markup=False)
        console.print()
    for setting, compared in groupby(report.comparisons, key=lambda pair: pair.network.setting):
        console.print(f"{setting}: peers at equal accuracy", comparison_table(list(compared)), "", sep="\n")
    if report.comparisons:
        console.print(f"top-1: published, ImageNet-1K, {SIZE} pixels; peer: the nearest of its family within {MARGIN};")
        console.print("x: speedup over the peer, median of the rounds' ratios; above 1 is faster.")
    for title, found in report.growths.items():
        console.print(f"{title}: ms per image by size", growth_table(found), sep="\n")
    if report.growths:
        console.print("time/px, mem/px: per pixel, largest over smallest size; x1 is linear in the pixels.")


def _document(report: Report) -> dict:
    return {
        "machine": report.facts,
        "rows": [
            row(part, result, report.facts) for part, outcome in report.outcomes.items() for result in outcome.results
        ],
        "left_out": [
            {"part": part, "subject": one.name, "form": one.form, "setting": str(one.setting), "reason": one.reason}
            for part, outcome in report.outcomes.items()
            for one in outcome.left_out
        ],
        "equal_accuracy": [
            {
                "setting": str(pair.network.setting),
                "subject": pair.network.subject.name,
                "form": pair.network.subject.form,
                "peer": pair.peer.subject.name,
                "peer_form": pair.peer.subject.form,
                "speedup": asdict(pair.speedup),
            }
            for pair in report.comparisons
        ],
        "growth": {title: [asdict(one) for one in found] for title, found in report.growths.items()},
    }


def _draw(plot: Path, report: Report) -> None:
    facts = report.facts
    note = f"{facts['device']}, threads: {facts['threads']}, torch {facts['torch']}, foveal {facts['commit']}"
    results = [result for outcome in report.outcomes.values() for result in outcome.results]
    if "scaling" not in report.outcomes:
        (draw_accuracy if report.at_accuracy else draw_bars)(plot, results, note)
    elif report.growths:
        draw_growth(plot, report.growths, note)
