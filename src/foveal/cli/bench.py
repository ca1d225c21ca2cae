"""``foveal bench``: speed and memory beside timm's peers, in one interleaved run."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, product
from pathlib import Path
from typing import Annotated

import torch
from rich.console import Console
from tyro.conf import Positional, arg

from foveal.bench.check import check_operators
from foveal.bench.jobs import PARTS, Job, jobs
from foveal.bench.machine import device_name, keep_memory, machine_facts, slug
from foveal.bench.plot import check_plot, draw_bars, draw_growth
from foveal.bench.rows import append_rows, check_csv, row
from foveal.bench.run import Outcome, Plan
from foveal.bench.scaling import SIZES, Growth, growth
from foveal.bench.settings import DTYPES, MODES, Setting, parse_size
from foveal.bench.subjects import FORMS, MODELS, is_ours
from foveal.cli.bench_tables import growth_table, left_out_lines, remarks, tables
from foveal.cli.console import Json, print_json, progress
from foveal.errors import FovealError

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
    """Speed and peak memory of models and operators, and how both grow with the image.

    All are timed in turn, round after round: compare ratios, not seconds of different runs. Nothing is timed while an
    operator fails a short test of its formula. Options that say "list" take several values with commas, and every
    combination is measured.

    Args:
        what: models; ops, the operators at the shapes of TransNeXt-Tiny and TransXNet-S; scaling, models against the
            image's size in normal and linear mode; or a list.
        peers: Time timm's ConvNeXt-T, Swin-T and PVTv2-B2 in the same run.
        models: List of models.
        forms: List of eager, optimised (foveal.optimize), compiled (torch.compile), reference (the authors' form of the
            operators). Left out, what suits: eager and optimised, in training eager, for scaling optimised. Peers are
            eager beside all but compiled.
        mode: List of inference (a forward pass) and training (forward, loss, backward, no optimiser).
        dtypes: List of fp32, bf16, fp16. Half types: in inference the whole network is cast, in training it runs under
            autocast.
        batches: List of images a call; 8 if left out, 1 for scaling.
        sizes: List of sides in pixels, or heights x widths as in 480x640; 224 if left out, 224 to 1024 for scaling.
        device: cpu, cuda, cuda:1, ...
        threads: Of PyTorch on the CPU; its own choice if left out.
        rounds: Counted rounds, after two that are not.
        no_memory: Leave peak memory out, which on a CPU takes a process of its own for each subject.
        csv: File to add rows to; in a folder, a file named after the device.
        plot: Picture to draw, a .png, .svg or .pdf file; of scaling, the lines.
    """
    parts = _listed("what to time", what, PARTS)
    order = _Order(
        models=_listed("--models", models),
        peers=peers,
        forms=None if forms is None else _listed("--forms", forms, FORMS),
        modes=_listed("--mode", mode, MODES),
        dtypes=_listed("--dtypes", dtypes, tuple(DTYPES)),
        batches=None if batches is None else _whole_numbers("--batches", batches),
        sizes=None if sizes is None else _listed("--sizes", sizes),
        device=device,
    )
    _check(order, rounds, threads)
    target = _csv_file(csv, device)
    if plot is not None:
        _check_plot(plot, parts, order.sizes)
    if torch.device(device).type == "cuda":
        torch.cuda.set_device(torch.device(device).index or 0)  # events and kernels go to the current device
    keeps = keep_memory()
    if threads is not None:
        torch.set_num_threads(threads)
    with progress("Testing the operators") as on_step:
        check_operators(device, order.dtypes, "training" in order.modes, on_step)
    facts = machine_facts(device, keeps)
    outcomes = _measure({part: order.jobs(part) for part in parts}, rounds, not no_memory, target, facts)
    grown = _growths(outcomes)
    if plot is not None:
        _draw(plot, outcomes, grown, facts)
    if json:
        print_json(_document(outcomes, grown, facts))
    else:
        _print(outcomes, grown, facts)


@dataclass(frozen=True)
class _Order:
    """The options that say what is measured; None where the part decides."""

    models: tuple[str, ...]
    peers: bool
    forms: tuple[str, ...] | None
    modes: tuple[str, ...]
    dtypes: tuple[str, ...]
    batches: tuple[int, ...] | None
    sizes: tuple[str, ...] | None
    device: str

    def jobs(self, part: str) -> list[Job]:
        batches = self.batches or ((1,) if part == "scaling" else (8,))
        sizes = [parse_size(size) for size in self.sizes or (SIZES if part == "scaling" else ("224",))]
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


def _measure(
    planned: dict[str, list[Job]], rounds: int, memory: bool, target: Path | None, facts: dict[str, str]
) -> Outcomes:
    """All jobs in turn; rows are written as soon as a job is done."""
    total = sum(Plan(rounds, memory).steps(len(job.subjects)) for part in planned.values() for job in part)
    outcomes = {}
    with progress("Timing") as tell:
        steps = iter(range(1, total + 1))
        plan = Plan(rounds, memory, on_step=lambda: tell(next(steps), total))
        for part, part_jobs in planned.items():
            outcomes[part] = Outcome()
            for job in part_jobs:
                outcome = job.run(plan)
                outcomes[part] += outcome
                if target is not None:
                    append_rows(target, [row(part, result, facts) for result in outcome.results])
    for part, outcome in outcomes.items():
        if not outcome.results:
            raise FovealError(f"Nothing of {part} could be timed. {left_out_lines(outcome.left_out)[0]}")
    return outcomes


def _growths(outcomes: Outcomes) -> dict[str, list[Growth]]:
    """Of scaling, by what was held fixed: "inference, fp32, batch 1"."""
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
        console.print(f"{title}: ms an image by size", growth_table(found), sep="\n")
    if grown:
        console.print("time/px, mem/px: of a pixel at the largest size, over the smallest; x1 is linear in the pixels.")


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
    note = f"{facts['device']}, threads {facts['threads']}, torch {facts['torch']}, foveal {facts['commit']}"
    if "scaling" not in outcomes:
        draw_bars(plot, [result for outcome in outcomes.values() for result in outcome.results], note)
    elif grown:
        draw_growth(plot, grown, note)


def _listed(option: str, text: str, known: Sequence[str] | None = None) -> tuple[str, ...]:
    """The values of a list with commas, each once."""
    values = tuple(dict.fromkeys(value.strip() for value in text.split(",")))
    for value in values:
        if not value or (known is not None and value not in known):
            choice = f"; there are {', '.join(known)}" if known else ""
            raise FovealError(f"{option} cannot be {value!r}{choice}: give one or more, with commas and no spaces.")
    return values


def _whole_numbers(option: str, text: str) -> tuple[int, ...]:
    values = _listed(option, text)
    for value in values:
        if not value.isdecimal() or int(value) < 1:
            raise FovealError(f"{option} takes whole numbers from 1, with commas, not {value!r}.")
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
        raise FovealError(f"There is no device {order.device!r} here: leave --device out, or name another.") from None


def _csv_file(path: Path | None, device: str) -> Path | None:
    if path is None:
        return None
    target = path / f"{slug(device_name(device))}.csv" if path.is_dir() else path
    check_csv(target)
    return target


def _check_plot(plot: Path, parts: tuple[str, ...], sizes: tuple[str, ...] | None) -> None:
    if "scaling" in parts and len(parts) > 1:
        raise FovealError("The lines of scaling are a picture of their own: run it apart, with another --plot.")
    if "scaling" in parts and sizes is not None and len(sizes) < 2:
        raise FovealError("One size alone has no line to draw: give --sizes two or more.")
    check_plot(plot)
