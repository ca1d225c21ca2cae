"""Measure two subjects beside each other on the CPU: common code of ``detection_step.py`` and ``receptive_field.py``.

Time: both alternate in this process, so that each ratio compares adjacent measurements. Memory: each measurement runs
in a separate process, alternating as well; it is the peak beyond weights and inputs, with an allocator that returns
memory at once. Ratios are reported as 20th, 50th and 80th percentile over the rounds.
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from foveal import ops
from foveal.bench.machine import device_name, machine_facts, slug
from foveal.bench.measure import Spread, peak_on_cpu, ratios
from foveal.bench.results import Result, append_rows, check_csv, row
from foveal.bench.run import MeasurementSettings, run_setting
from foveal.bench.settings import Setting, parse_size

COLUMNS = ("subject", "p20_ms", "p50_ms", "p80_ms", "ratio_p20", "ratio_p50", "ratio_p80", "held_mib", "peak_mib")


def add_options(parser: argparse.ArgumentParser, size: str, batch: int = 1) -> None:
    """Add the options of the measurement; ``size`` and ``batch`` are defaults."""
    parser.add_argument("--size", default=size, help="side, or height x width, in pixels")
    parser.add_argument("--batch", type=int, default=batch, help="images per forward pass")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--csv", type=Path, help="a file, or the folder benchmarks/results for this device's")


def run(
    part: str,
    pair: list,
    mode: str,
    options: argparse.Namespace,
    error: Callable[[str], None],
    dtype: str = "fp32",
) -> None:
    """Measure a pair of subjects, of which the second is the baseline, print both, and append rows if a file is named.

    Args:
        part: of the rows.
        pair: subjects of ``foveal.bench``.
        mode: of the setting.
        options: those of ``add_options``.
        error: called with one sentence for wrong options.
        dtype: of the setting.
    """
    if min(options.rounds, options.memory_rounds) < 2:
        error("--rounds and --memory-rounds must be at least 2.")
    target = options.csv
    if target is not None:
        target = target / f"{slug(device_name('cpu'))}.csv" if target.is_dir() else target
        check_csv(target)
    torch.set_num_threads(options.threads)
    facts = machine_facts("cpu", ops.keep_memory())
    height, width = parse_size(options.size)
    setting = Setting(mode, dtype, options.batch, height, width, "cpu", options.threads)
    rows = [row(part, result, facts) for result in measure(pair, setting, options.rounds, options.memory_rounds)]
    print(f"{setting}; {facts['device']}, {facts['threads']} threads, torch {facts['torch']}, {facts['date']}")
    print("| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|", sep="\n")
    for one in rows:
        print("| " + " | ".join(str(one[column]) for column in COLUMNS) + " |")
    if target is not None:
        append_rows(target, rows)


def measure(pair: list, setting: Setting, rounds: int, memory_rounds: int) -> list[Result]:
    """Return times of both, with the second as baseline, and their median peaks; print the ratios of the first."""
    outcome = run_setting(pair, setting, MeasurementSettings(rounds, memory=False), lambda subject: pair[1])
    if outcome.left_out:
        raise SystemExit(f"{outcome.left_out[0].name}: {outcome.left_out[0].reason}")
    seconds = {result.subject: result.per_round for result in outcome.results}
    _print_ratio("time", Spread.of(ratios(seconds[pair[0]], seconds[pair[1]])), pair)
    peaks: dict[object, list[int]] = {subject: [] for subject in pair}
    for _ in range(memory_rounds):
        for subject in pair:
            peak = peak_on_cpu(subject, setting)
            if peak is None:
                raise SystemExit(f"{subject.name}: the peak could not be measured: not on Linux, or not enough memory.")
            peaks[subject].append(peak)
    _print_ratio("peak memory", Spread.of(ratios(peaks[pair[0]], peaks[pair[1]])), pair)
    return [replace(one, peak=round(statistics.median(peaks[one.subject]))) for one in outcome.results]


def _print_ratio(what: str, ratio: Spread, pair: list) -> None:
    print(f"{what} of {pair[0].name} over that of {pair[1].name}: {ratio.p20:.3f}, {ratio.p50:.3f}, {ratio.p80:.3f}")
