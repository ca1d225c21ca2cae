"""Throughput and memory of the networks of a paper's table, measured in one interleaved run beside the printed ones.

What compares with a paper is not images per second, which are of another machine, but how fast a network is beside
another: so the figures are speedups over the first network of the table, next to the paper's own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from foveal.bench.measure import Spread, ratios
from foveal.bench.results import Outcome, Result
from foveal.bench.run import MeasurementSettings, run_setting
from foveal.bench.settings import Setting
from foveal.bench.subjects import ModelSubject
from foveal.bench.tables import left_out_lines, machine_line
from foveal.errors import FovealError
from foveal.papers import PaperTable, Row
from foveal.papers.columns import COLUMNS
from foveal.papers.measured import Measured, OwnFigures

SIDE = 224  # pixels of the images, where the table does not give their size
_MB = 1e6
_SPEED, _MEMORY = COLUMNS["images_s"], COLUMNS["memory_mb"]
_KERNELS, _PLAIN, _GAIN = COLUMNS["images_s_cuda"], COLUMNS["images_s_pytorch"], COLUMNS["inference_gain"]
Subjects = dict[int, ModelSubject]  # by index of the row
Results = dict[int, Result]


@dataclass(frozen=True)
class TimeOptions:
    """How a table is timed: images per call, PyTorch's name of the device, counted rounds, and whether memory is
    measured."""

    batch: int
    device: str
    rounds: int
    memory: bool


def time_table(
    table: PaperTable, options: TimeOptions, facts: dict[str, str], on_step: Callable[[int, int], None]
) -> Measured:
    """Return throughput and memory of every network of a table that can be built here.

    Args:
        table: a table of classifiers; if it compares kernels with plain PyTorch, both are measured, and else each
            network with the kernels that it has.
        options: how to measure.
        facts: of the machine.
        on_step: called with (done, total).

    Raises:
        FovealError: the table has no network that can be built here, or nothing could be measured.
    """
    subjects = subjects_of(table)
    compares = _GAIN in table.columns
    forms = ("eager", "reference") if compares else ("eager",)
    sizes = _by_size(table, subjects)
    steps = MeasurementSettings(options.rounds, options.memory).steps
    total = sum(steps(len(forms) * len(set(group.values()))) for group in sizes.values())
    count = iter(range(1, total + 1))
    measurement = MeasurementSettings(options.rounds, options.memory, on_step=lambda: on_step(next(count), total))
    outcomes, figures = [], []
    for side, group in sizes.items():
        setting = Setting("inference", "fp32", options.batch, side, side, options.device, torch.get_num_threads())
        distinct = [
            ModelSubject(one.model, form, one.options) for one in dict.fromkeys(group.values()) for form in forms
        ]
        outcomes.append(run_setting(distinct, setting, measurement))
        figures.append(_kernel_figures(group, outcomes[-1]) if compares else _figures(table, group, outcomes[-1]))
    if not any(outcome.results for outcome in outcomes):
        raise FovealError(f"Nothing could be timed. {left_out_lines(outcomes[0].left_out)[0]}")
    notes = _notes(table, sizes, options, facts, outcomes)
    return Measured(_merged(figures), notes, {**facts, "batch": options.batch, "rounds": options.rounds})


def subjects_of(table: PaperTable) -> Subjects:
    """Return the networks of a table that can be built here, ours and timm's, by index of the row.

    Raises:
        FovealError: it has none, or its figures are of detectors or segmenters.
    """
    if any("ap" in c.name.split("_") or c.name.startswith("miou") for c in table.columns) and not _classifies(table):
        raise FovealError(
            f"{table.name} has detectors or segmenters, and --time is for classifiers: choose another table, or see "
            "`foveal bench models`."
        )
    named = {index: row.model or row.peer for index, row in enumerate(table.rows)}
    found = {
        index: ModelSubject(name, options=tuple(table.rows[index].arguments.items()))
        for index, name in named.items()
        if name
    }
    if not found:
        raise FovealError(f"No row of {table.name} is a network that can be built here: choose another table.")
    return found


def _classifies(table: PaperTable) -> bool:
    return any(column.name.startswith(("top1", "images_s")) for column in table.columns)


def _by_size(table: PaperTable, subjects: Subjects) -> dict[int, Subjects]:
    """Return the networks by side of their images; each side is an interleaved run of its own."""
    sizes: dict[int, Subjects] = {}
    for index, subject in subjects.items():
        sizes.setdefault(int(table.rows[index].number("size") or SIDE), {})[index] = subject
    return sizes


def _results(group: Subjects, outcome: Outcome, form: str = "eager") -> Results:
    measured = {result.subject: result for result in outcome.results}
    rows = {index: ModelSubject(one.model, form, one.options) for index, one in group.items()}
    return {index: measured[subject] for index, subject in rows.items() if subject in measured}


def _figures(table: PaperTable, group: Subjects, outcome: Outcome) -> list[OwnFigures]:
    """Return images per second and memory, and both as ratios to the first network, the paper's beside ours."""
    results = _results(group, outcome)
    if not results:
        return []
    first = min(results)
    speedups = {index: Spread.of(ratios(results[first].per_round, one.per_round)) for index, one in results.items()}
    speeds = {index: one.setting.batch / one.seconds.p50 for index, one in results.items()}
    figures = [
        OwnFigures(_SPEED, "measured", "here", speeds),
        OwnFigures(_SPEED, "paper_ratio", "paper x", _printed_ratios(table.rows, results, _SPEED.name)),
        OwnFigures(_SPEED, "ratio", "here x", {index: one.p50 for index, one in speedups.items()}, 2),
        OwnFigures(_SPEED, "ratio_p20", "p20", {index: one.p20 for index, one in speedups.items()}, 2),
        OwnFigures(_SPEED, "ratio_p80", "p80", {index: one.p80 for index, one in speedups.items()}, 2),
    ]
    memory = {index: (one.held + one.peak) / _MB for index, one in results.items() if one.peak is not None}
    if memory:
        own = {index: value / memory[first] for index, value in memory.items()} if first in memory else {}
        figures += [
            OwnFigures(_MEMORY, "measured", "here", memory, 0),
            OwnFigures(_MEMORY, "paper_ratio", "paper x", _printed_ratios(table.rows, results, _MEMORY.name)),
            OwnFigures(_MEMORY, "ratio", "here x", own, 2),
        ]
    return [one for one in figures if one.values]


def _printed_ratios(rows: Sequence[Row], results: Results, column: str) -> Mapping[int, float]:
    """Return the printed figures of the measured rows as ratios to that of the first."""
    first = rows[min(results)].number(column)
    printed = {index: rows[index].number(column) for index in results}
    return {} if not first else {index: number / first for index, number in printed.items() if number is not None}


def _kernel_figures(group: Subjects, outcome: Outcome) -> list[OwnFigures]:
    """Return images per second with our kernels and in plain PyTorch, and the gain in percent as the paper has it."""
    kernels, plain = _results(group, outcome), _results(group, outcome, "reference")
    gains = {
        index: Spread.of([100 * (speedup - 1) for speedup in ratios(plain[index].per_round, one.per_round)])
        for index, one in kernels.items()
        if index in plain
    }
    speeds = [
        OwnFigures(
            column, "measured", "here", {index: one.setting.batch / one.seconds.p50 for index, one in of.items()}
        )
        for column, of in ((_KERNELS, kernels), (_PLAIN, plain))
    ]
    spread = [
        OwnFigures(_GAIN, name, heading, {index: getattr(one, part) for index, one in gains.items()}, 1)
        for name, heading, part in (("measured", "here", "p50"), ("p20", "p20", "p20"), ("p80", "p80", "p80"))
    ]
    return [one for one in (*speeds, *spread) if one.values]


def _merged(groups: Sequence[Sequence[OwnFigures]]) -> tuple[OwnFigures, ...]:
    """Join the figures of several runs, which are of different rows."""
    merged: dict[tuple[str, str], OwnFigures] = {}
    for one in (figures for group in groups for figures in group):
        key = one.column.name, one.name
        values = {**(merged[key].values if key in merged else {}), **one.values}
        merged[key] = OwnFigures(one.column, one.name, one.heading, values, one.decimals)
    return tuple(merged.values())


def _notes(
    table: PaperTable, sizes: dict[int, Subjects], options: TimeOptions, facts: dict[str, str],
    outcomes: Sequence[Outcome],
) -> tuple[str, ...]:  # fmt: skip
    rounds = f"median of {options.rounds} rounds, all networks of a size in turn"
    if _GAIN in table.columns:
        meant = "kernels of this library against the authors' form of the operators in plain PyTorch"
    else:
        firsts = ", ".join(
            table.rows[min(done)].name
            for done in (_results(group, outcome) for group, outcome in zip(sizes.values(), outcomes, strict=True))
            if done
        )
        meant = f"x: ratio to {firsts}, with 20th and 80th percentile of the rounds; memory with weights and images"
    left_out = left_out_lines([one for outcome in outcomes for one in outcome.left_out])
    pixels = ", ".join(map(str, sizes))
    how = f"here: inference, fp32, batch {options.batch}, {pixels} pixels, {rounds}; {meant}."
    return how, machine_line(facts), *left_out
