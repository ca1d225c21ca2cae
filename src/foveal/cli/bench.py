"""What ``foveal bench`` does with its options: speed and memory next to timm's peers, in one interleaved run."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch

from foveal.bench.check import check_operators
from foveal.bench.machine import device_name, keep_memory, machine_facts, slug
from foveal.bench.peers import NETWORKS, SIZE, accuracy_of
from foveal.bench.plot import check_plot
from foveal.bench.results import Outcome, append_rows, check_csv, row
from foveal.bench.run import PARTS, PEERS, Job, MeasurementSettings, jobs
from foveal.bench.settings import DTYPES, INT8, MODES, Setting, parse_size
from foveal.bench.subjects import FORMS, MODELS, is_ours
from foveal.bench.tables import left_out_lines
from foveal.cli.bench_report import Report, show
from foveal.cli.commands.bench import BenchOptions
from foveal.cli.console import progress
from foveal.errors import FovealError
from foveal.near import did_you_mean

SCALING_SIZES = ("224", "320", "448", "640", "768", "1024")
Outcomes = dict[str, Outcome]  # by part


def run(options: BenchOptions) -> None:
    """Measure what the options ask for, and print, write and draw it."""
    parts = _listed("what to time", options.what, PARTS)
    chosen_peers = _listed("--peers", options.peers, PEERS) if options.peers != "none" else ()
    order = _Order(
        models=_listed("--models", options.models)
        if options.models
        else NETWORKS
        if "accuracy" in chosen_peers
        else MODELS,
        peers=chosen_peers,
        forms=None if options.forms is None else _listed("--forms", options.forms, FORMS),
        modes=_listed("--mode", options.mode, MODES),
        dtypes=_listed("--dtypes", options.dtypes, (*DTYPES, INT8)),
        batches=None if options.batches is None else _whole_numbers("--batches", options.batches),
        sizes=None if options.sizes is None else _listed("--sizes", options.sizes),
        device=options.device,
    )
    _check(order, options.rounds, options.threads)
    if INT8 in order.dtypes and ((order.dtypes == (INT8,) and "ops" in parts) or "inference" not in order.modes):
        raise FovealError("int8 is for networks in inference: leave it out of --dtypes for operators and for training.")
    target = _csv_file(options.csv, options.device)
    _check_plot(options.plot, parts, order)
    facts = _prepare_machine(order, options.threads)
    outcomes = _measure(
        {part: order.jobs(part) for part in parts}, options.rounds, not options.no_memory, target, facts
    )
    show(Report(outcomes, facts, order.at_accuracy), options.plot, options.json)


@dataclass(frozen=True)
class _Order:
    """The options that say what is measured; None leaves the choice to the part."""

    models: tuple[str, ...]
    peers: tuple[str, ...]
    forms: tuple[str, ...] | None
    modes: tuple[str, ...]
    dtypes: tuple[str, ...]
    batches: tuple[int, ...] | None
    sizes: tuple[str, ...] | None
    device: str

    @property
    def at_accuracy(self) -> bool:
        return "accuracy" in self.peers

    @property
    def float_dtypes(self) -> tuple[str, ...]:
        """The dtypes of operators: beside int8 they run in float32, or in bfloat16 where the processor computes it."""
        beside = ("fp32", "bf16") if INT8 in self.dtypes else ()
        return tuple(dict.fromkeys(dtype for dtype in (*self.dtypes, *beside) if dtype != INT8))

    def jobs(self, part: str) -> list[Job]:
        batches = self.batches or ((1,) if part == "scaling" else (8,))
        sizes = [parse_size(size) for size in self.sizes or (SCALING_SIZES if part == "scaling" else ("224",))]
        return [
            job
            for mode, dtype, batch, (height, width) in product(self.modes, self.dtypes, batches, sizes)
            for job in jobs(
                part,
                Setting(mode, dtype, batch, height, width, self.device, torch.get_num_threads()),
                self.models,
                self.peers,
                self.forms,
            )
        ]


def _prepare_machine(order: _Order, threads: int | None) -> dict[str, str]:
    return prepare_machine(order.device, threads, order.float_dtypes, "training" in order.modes)


def prepare_machine(
    device: str, threads: int | None = None, dtypes: Sequence[str] = ("fp32",), training: bool = False
) -> dict[str, str]:
    """Set up device, allocator and threads, check the operators, and return the facts of every row."""
    if torch.device(device).type == "cuda":
        torch.cuda.set_device(torch.device(device).index or 0)  # events and kernels go to the current device
    keeps = keep_memory()
    if threads is not None:
        torch.set_num_threads(threads)
    with progress("Testing the operators") as on_step:
        check_operators(device, tuple(dtypes), training, on_step)
    return machine_facts(device, keeps)


def _measure(
    planned: dict[str, list[Job]], rounds: int, memory: bool, target: Path | None, facts: dict[str, str]
) -> Outcomes:
    """Run all jobs; rows are written as soon as a job is done."""
    count = MeasurementSettings(rounds, memory).steps
    total = sum(count(len(job.subjects)) for part in planned.values() for job in part)
    outcomes = {}
    with progress("Timing") as on_step:
        steps = iter(range(1, total + 1))
        measurement = MeasurementSettings(rounds, memory, on_step=lambda: on_step(next(steps), total))
        for part, part_jobs in planned.items():
            outcomes[part] = Outcome()
            for job in part_jobs:
                outcome = job.run(measurement)
                outcomes[part] += outcome
                if target is not None:
                    append_rows(target, [row(part, result, facts) for result in outcome.results])
    for part, outcome in outcomes.items():
        if not outcome.results:
            raise FovealError(f"Nothing could be timed for {part}. {left_out_lines(outcome.left_out)[0]}")
    return outcomes


def _listed(option: str, text: str, known: Sequence[str] | None = None) -> tuple[str, ...]:
    """Split a list at its commas, keeping each value once."""
    values = tuple(dict.fromkeys(value.strip() for value in text.split(",")))
    for value in values:
        if not value or (known is not None and value not in known):
            choices = f" of {', '.join(known)}" if known else ""
            near = did_you_mean(value, known or (), most=1)
            raise FovealError(f"{option} cannot be {value!r}{near}: give one or more{choices}, separated by commas.")
    return values


def _whole_numbers(option: str, text: str) -> tuple[int, ...]:
    values = _listed(option, text)
    for value in values:
        if not value.isdecimal() or int(value) < 1:
            raise FovealError(f"{option} takes positive whole numbers separated by commas, not {value!r}.")
    return tuple(map(int, values))


def check_machine(device: str, rounds: int, threads: int | None) -> None:
    """Raise FovealError for too few rounds or threads, or a device that is not there."""
    for name, value, least in (("--rounds", rounds, 2), ("--threads", threads, 1)):
        if value is not None and value < least:
            raise FovealError(f"{name} must be at least {least}, not {value}.")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise FovealError(f"There is no device {device!r} here: omit --device or name another.") from None


def _check(order: _Order, rounds: int, threads: int | None) -> None:
    check_machine(order.device, rounds, threads)
    for model in order.models:
        is_ours(model)
    if order.at_accuracy and not any(map(accuracy_of, order.models)):
        known = ", ".join(NETWORKS)
        raise FovealError(f"--peers accuracy needs a model with a published accuracy at {SIZE} pixels: one of {known}.")
    for size in order.sizes or ():
        parse_size(size)


def _csv_file(path: Path | None, device: str) -> Path | None:
    if path is None:
        return None
    target = path / f"{slug(device_name(device))}.csv" if path.is_dir() else path
    check_csv(target)
    return target


def _check_plot(plot: Path | None, parts: tuple[str, ...], order: _Order) -> None:
    if plot is None:
        return
    if "scaling" in parts and len(parts) > 1:
        raise FovealError("scaling needs a chart of its own: run it separately, with another --plot.")
    if "ops" in parts and order.at_accuracy:
        raise FovealError("Operators have no accuracy: run ops separately, or without --peers accuracy.")
    if "scaling" in parts and order.sizes is not None and len(order.sizes) < 2:
        raise FovealError("One size is not enough to draw a line: give --sizes two or more.")
    check_plot(plot)
