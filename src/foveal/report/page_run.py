"""The report page of a run of any task: how it learned, what it gets right and wrong, what to type next, and what it
was trained with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from foveal.report.findings import Findings
from foveal.report.history import differences
from foveal.report.page import Child, Html, commands, el, headline, page, section
from foveal.report.page_curves import training_curves
from foveal.report.page_next import RunPlace, next_commands
from foveal.report.page_provenance import duration, run_facts, trained_seconds
from foveal.training import Outcome
from foveal.training.journal import BEGINNING, STEPS, JsonLines
from foveal.training.listener import over_classes
from foveal.wording import figure, in_units, spoken

REPORT = "report.html"


@dataclass(frozen=True)
class RunReport:
    """A finished run, and what its network gets right and wrong.

    Attributes:
        task: the trained task.
        outcome: of the whole run, also of what was trained before it was resumed.
        findings: see ``findings.look``.
        place: where its files will be when the page is read.
        begun: content of ``run.json``; empty for a run from before it was written.
        steps: content of ``steps.jsonl``.
    """

    task: Any
    outcome: Outcome
    findings: Findings
    place: RunPlace
    begun: Mapping[str, Any]
    steps: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, task: Any, outcome: Outcome, findings: Findings, place: RunPlace, folder: Path) -> RunReport:
        """Read the logs of a run in ``folder``."""
        file = folder / BEGINNING
        begun = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        return cls(task, outcome, findings, place, begun, JsonLines(folder / STEPS).read())

    @property
    def params(self) -> int:
        return sum(parameter.numel() for parameter in self.task.model.parameters())

    @property
    def images_per_second(self) -> float:
        """Training speed, averaged over all epochs."""
        return fmean(record["images_per_second"] for record in self.outcome.history)

    def best_figure(self) -> str:
        """Return the monitored figure of the best epoch, with its unit."""
        return figure(self.outcome.monitor, self.outcome.best or 0.0)


def run_page(
    report: RunReport,
    title: str | None = None,
    numbers: Mapping[str, str] | None = None,
    further: Sequence[Html] = (),
    next_lines: Sequence[tuple[str, str]] = (),
    facts: Child = None,
) -> str:
    """Return the complete HTML document.

    Args:
        title: of the page; the recipe's name if None.
        numbers: of the headline, beside the first; see ``run_numbers``.
        further: sections between what the network gets right and wrong and what to type next.
        next_lines: further commands to run next, as pairs (purpose, command).
        facts: further content of the last section.
    """
    outcome, task, findings = report.outcome, report.task, report.findings
    best = next((record for record in outcome.history if record["epoch"] == outcome.best_epoch), {})
    name = f"Validation {_lower(spoken(outcome.monitor))}{over_classes(best)}"
    curves = training_curves(
        outcome.history, report.steps, outcome.monitor, outcome.best_epoch, differences(report.begun.get("card", {}))
    )
    lines = [*next_commands(task.kind, report.place), *next_lines]
    content = (
        headline({name: report.best_figure(), **(run_numbers(report) if numbers is None else numbers)}),
        None if findings.scope is None else el("p", findings.scope, class_="note"),
        section("How it learned", curves),
        [section(heading, part) for heading, part in findings.sections],
        further,
        section("What to type next", el("p", _where(report), class_="note"), commands(lines)),
        section("What was trained", facts, run_facts(task, outcome, report.begun, report.place.data)),
    )
    return page(title or task.recipe.name, findings.lead, content)


def run_numbers(report: RunReport) -> dict[str, str]:
    """Return the numbers of the headline beside the monitored figure."""
    return {
        "Best epoch": f"{report.outcome.best_epoch} of {report.outcome.epochs}",
        "Training time": duration(trained_seconds(report.outcome)),
        "Training, images/s": f"{report.images_per_second:.0f}",
        "Parameters": f"{in_units(report.params, 1e6)} M",
    }


def _where(report: RunReport) -> str:
    return f"In the folder that the run was started in, {Path.cwd()}."


def _lower(words: str) -> str:
    return words[0].lower() + words[1:] if words[1:2].islower() else words
