"""``foveal bench``: speed and memory next to timm's peers, in one interleaved run."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, product
from pathlib import Path
from typing import Annotated

import torch
from rich.console import Console
from tyro.conf import Positional, arg

from foveal.bench.check import check_operators
from foveal.bench.machine import device_name, keep_memory, machine_facts, slug
from foveal.bench.plot import check_plot, draw_bars, draw_growth
from foveal.bench.results import Growth, Outcome, append_rows, check_csv, growth, row
from foveal.bench.run import PARTS, Job, MeasurementSettings, jobs
from foveal.bench.settings import DTYPES, INT8, MODES, Setting, parse_size
from foveal.bench.subjects import FORMS, MODELS, is_ours
from foveal.bench.tables import growth_table, left_out_lines, remarks, tables
from foveal.cli.console import Json, print_json, progress
from foveal.errors import FovealError

SCALING_SIZES = ("224", "320", "448", "640", "768", "1024")
Outcomes = dict[str, Outcome]  # by part


def main(
    what: Annotated[Positional[str], arg(metavar="models,ops,scaling")] = "models",
    *,
    peers: bool = False,
    models: str = ",".join(MODELS),
    forms: str | None = None,
    mode: str = "inference",
    dtypes: str = "fp32",
    batches: str | None = None,
    sizes: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    rounds: int = 7,
    no_memory: bool = False,
    csv: Path | None = None,
    plot: Path | None = None,
    json: Json = False,
) -> None:
    """Measure speed and peak memory of models and operators, and their growth with the image size.

    All subjects are timed in turn, round by round: compare ratios, not seconds of different runs. Before any timing, a
    short test checks that every operator computes its formula. Options that say "list" take several values separated
    by commas; every combination is measured.

    Args:
        what: models; ops, the operators at the shapes of TransNeXt-Tiny and TransXNet-S; scaling, models at several
            image sizes in normal and linear mode; or a list.
        peers: Also measure timm's ConvNeXt-T, Swin-T and PVTv2-B2.
        models: List of models.
        forms: List of eager, optimised (foveal.optimize), compiled (torch.compile), reference (the authors' form of the
            operators). Default: eager and optimised; for training eager, for scaling optimised. Peers are measured
            compiled if compiled is listed, and eager for all other forms.
        mode: List of inference (a forward pass) and training (forward, loss, backward, no optimiser).
        dtypes: List of fp32, bf16, fp16, int8. In half types the network is cast for inference, autocast for training.
            int8 is foveal.quantize on a CPU; peers have no such form and are measured in fp32 beside it.
        batches: List of images per call. Default: 8, for scaling 1.
        sizes: List of sides in pixels, or height x width as in 480x640. Default: 224, for scaling 224 to 1024.
        device: cpu, cuda, cuda:1, ...
        threads: PyTorch's threads on the CPU. Default: PyTorch's choice.
        rounds: Counted rounds, after two warm-up rounds.
        no_memory: Do not measure peak memory, which on a CPU takes a separate process for each subject.
        csv: File to append rows to; in a folder, a file named after the device.
        plot: Chart to draw, a .png, .svg or .pdf file; for scaling, lines against the image size.
    """
    parts = _listed("what to time", what, PARTS)
    order = _Order(
        models=_listed("--models", models),
        peers=peers,
        forms=None if forms is None else _listed("--forms", forms, FORMS),
        modes=_listed("--mode", mode, MODES),
        dtypes=_listed("--dtypes", dtypes, (*DTYPES, INT8)),
        batches=None if batches is None else _whole_numbers("--batches", batches),
        sizes=None if sizes is None else _listed("--sizes", sizes),
        device=device,
    )
    _check(order, rounds, threads)
    if INT8 in order.dtypes and ((order.dtypes == (INT8,) and "ops" in parts) or "inference" not in order.modes):
        raise FovealError("int8 is for networks in inference: leave it out of --dtypes for operators and for training.")
    target = _csv_file(csv, device)
    _check_plot(plot, parts, order.sizes)
    facts = _prepare_machine(order, threads)
    outcomes = _measure({part: order.jobs(part) for part in parts}, rounds, not no_memory, target, facts)
    _show(outcomes, facts, plot, json)


@dataclass(frozen=True)
class _Order:
    """The options that say what is measured; None leaves the choice to the part."""

    models: tuple[str, ...]
    peers: bool
    forms: tuple[str, ...] | None
    modes: tuple[str, ...]
    dtypes: tuple[str, ...]
    batches: tuple[int, ...] | None
    sizes: tuple[str, ...] | None
    device: str

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
    """Set up device, allocator and threads, check the operators, and return the facts of every row."""
    if torch.device(order.device).type == "cuda":
        torch.cuda.set_device(torch.device(order.device).index or 0)  # events and kernels go to the current device
    keeps = keep_memory()
    if threads is not None:
        torch.set_num_threads(threads)
    with progress("Testing the operators") as on_step:
        check_operators(order.device, order.float_dtypes, "training" in order.modes, on_step)
    return machine_facts(order.device, keeps)


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


def _show(outcomes: Outcomes, facts: dict[str, str], plot: Path | None, json: bool) -> None:
    grown = _growths(outcomes)
    if plot is not None:
        _draw(plot, outcomes, grown, facts)
    if json:
        print_json(_document(outcomes, grown, facts))
    else:
        _print(outcomes, grown, facts)


def _growths(outcomes: Outcomes) -> dict[str, list[Growth]]:
    """Return the growth of scaling by what was held fixed: "inference, fp32, batch 1"."""
    results = outcomes.get("scaling", Outcome()).results
    groups = groupby(results, key=lambda r: str(r.setting).rpartition(", ")[0])
    grown = {title: growth(list(group)) for title, group in groups}
    return {title: found for title, found in grown.items() if found}


def _print(outcomes: Outcomes, grown: dict[str, list[Growth]], facts: dict[str, str]) -> None:
    console = Console(highlight=False)
    for outcome in outcomes.values():
        for title, table in tables(outcome.results):
            console.print(title, table, "", sep="\n")
        for line in (*left_out_lines(outcome.left_out), *remarks(outcome.results, facts)):
            console.print(line)
        console.print()
    for title, found in grown.items():
        console.print(f"{title}: ms per image by size", growth_table(found), sep="\n")
    if grown:
        console.print("time/px, mem/px: per pixel, largest over smallest size; x1 is linear in the pixels.")


def _document(outcomes: Outcomes, grown: dict[str, list[Growth]], facts: dict[str, str]) -> dict:
    return {
        "machine": facts,
        "rows": [row(part, result, facts) for part, outcome in outcomes.items() for result in outcome.results],
        "left_out": [
            {"part": part, "subject": one.name, "form": one.form, "setting": str(one.setting), "reason": one.reason}
            for part, outcome in outcomes.items()
            for one in outcome.left_out
        ],
        "growth": {title: [asdict(one) for one in found] for title, found in grown.items()},
    }


def _draw(plot: Path, outcomes: Outcomes, grown: dict[str, list[Growth]], facts: dict[str, str]) -> None:
    note = f"{facts['device']}, threads: {facts['threads']}, torch {facts['torch']}, foveal {facts['commit']}"
    if "scaling" not in outcomes:
        draw_bars(plot, [result for outcome in outcomes.values() for result in outcome.results], note)
    elif grown:
        draw_growth(plot, grown, note)


def _listed(option: str, text: str, known: Sequence[str] | None = None) -> tuple[str, ...]:
    """Split a list at its commas, keeping each value once."""
    values = tuple(dict.fromkeys(value.strip() for value in text.split(",")))
    for value in values:
        if not value or (known is not None and value not in known):
            choices = f" of {', '.join(known)}" if known else ""
            raise FovealError(f"{option} cannot be {value!r}: give one or more{choices}, separated by commas.")
    return values


def _whole_numbers(option: str, text: str) -> tuple[int, ...]:
    values = _listed(option, text)
    for value in values:
        if not value.isdecimal() or int(value) < 1:
            raise FovealError(f"{option} takes positive whole numbers separated by commas, not {value!r}.")
    return tuple(map(int, values))


def _check(order: _Order, rounds: int, threads: int | None) -> None:
    for name, value, least in (("--rounds", rounds, 2), ("--threads", threads, 1)):
        if value is not None and value < least:
            raise FovealError(f"{name} must be at least {least}, not {value}.")
    for model in order.models:
        is_ours(model)
    for size in order.sizes or ():
        parse_size(size)
    try:
        torch.empty(1, device=order.device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise FovealError(f"There is no device {order.device!r} here: omit --device or name another.") from None


def _csv_file(path: Path | None, device: str) -> Path | None:
    if path is None:
        return None
    target = path / f"{slug(device_name(device))}.csv" if path.is_dir() else path
    check_csv(target)
    return target


def _check_plot(plot: Path | None, parts: tuple[str, ...], sizes: tuple[str, ...] | None) -> None:
    if plot is None:
        return
    if "scaling" in parts and len(parts) > 1:
        raise FovealError("scaling needs a chart of its own: run it separately, with another --plot.")
    if "scaling" in parts and sizes is not None and len(sizes) < 2:
        raise FovealError("One size is not enough to draw a line: give --sizes two or more.")
    check_plot(plot)
