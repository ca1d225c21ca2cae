"""Time and memory of the effective receptive fields of TransNeXt-T's four stages, and of timm's Swin-T.

    python benchmarks/receptive_field.py --csv benchmarks/results
    python benchmarks/receptive_field.py --images 100 --rounds 3

A call adds ``--images`` random images to a receptive field: one forward pass per batch, and one backward pass per stage
to the input. Time: both models alternate in this process, so that each ratio compares adjacent measurements. Memory:
each measurement runs in a separate process, alternating as well; it is the peak beyond weights and inputs, with an
allocator that returns memory at once. Ratios are reported as 20th, 50th and 80th percentile over the rounds.
"""

import argparse
import statistics
from dataclasses import dataclass, replace
from pathlib import Path

import timm
import torch

from foveal import ops
from foveal.bench.machine import device_name, machine_facts, slug
from foveal.bench.measure import Spread, peak_on_cpu, ratios
from foveal.bench.results import Result, append_rows, check_csv, row
from foveal.bench.run import MeasurementSettings, run_setting
from foveal.bench.settings import Setting, parse_size
from foveal.bench.subjects import Prepared
from foveal.explain import EffectiveReceptiveField


@dataclass(frozen=True)
class FieldSubject:
    """The receptive fields of a network over a number of images, as a subject of ``foveal.bench``."""

    model: str
    images: int
    form: str = "eager"

    @property
    def name(self) -> str:
        return f"{self.model} images={self.images}"

    def prepare(self, setting: Setting) -> Prepared:
        torch.manual_seed(0)
        fixed = timm.get_pretrained_cfg(self.model).fixed_input_size
        options = {"img_size": (setting.height, setting.width)} if fixed else {}
        net = timm.create_model(self.model, **options).eval()
        batches = torch.randn(self.images, 3, setting.height, setting.width).split(setting.batch)
        held = sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers(), *batches))

        def call() -> None:
            field = EffectiveReceptiveField(net)
            for batch in batches:
                field.add(batch)

        return Prepared(call, held)


def measure(pair: list[FieldSubject], setting: Setting, rounds: int, memory_rounds: int) -> list[Result]:
    """Return times of both, with the second as baseline, and their median peaks; print the ratios of the first."""
    outcome = run_setting(pair, setting, MeasurementSettings(rounds, memory=False), lambda subject: pair[1])
    if outcome.left_out:
        raise SystemExit(f"{outcome.left_out[0].name}: {outcome.left_out[0].reason}")
    seconds = {result.subject: result.per_round for result in outcome.results}
    _print_ratio("time", Spread.of(ratios(seconds[pair[0]], seconds[pair[1]])), pair)
    peaks: dict[FieldSubject, list[int]] = {subject: [] for subject in pair}
    for _ in range(memory_rounds):
        for subject in pair:
            peak = peak_on_cpu(subject, setting)
            if peak is None:
                raise SystemExit(f"{subject.name}: the peak could not be measured: not on Linux, or not enough memory.")
            peaks[subject].append(peak)
    _print_ratio("peak memory", Spread.of(ratios(peaks[pair[0]], peaks[pair[1]])), pair)
    return [replace(one, peak=round(statistics.median(peaks[one.subject]))) for one in outcome.results]


def _print_ratio(what: str, ratio: Spread, pair: list[FieldSubject]) -> None:
    print(f"{what} of {pair[0].name} over that of {pair[1].name}: {ratio.p20:.3f}, {ratio.p50:.3f}, {ratio.p80:.3f}")


def main() -> None:
    """Measure, print, and append rows to a file if one is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="transnext_tiny")
    parser.add_argument("--beside", default="swin_tiny_patch4_window7_224")
    parser.add_argument("--size", default="224", help="side, or height x width")
    parser.add_argument("--images", type=int, default=10, help="images per call")
    parser.add_argument("--batch", type=int, default=1, help="images per forward pass")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--csv", type=Path, help="a file, or the folder benchmarks/results for this device's")
    options = parser.parse_args()
    if min(options.rounds, options.memory_rounds) < 2:
        parser.error("--rounds and --memory-rounds must be at least 2.")
    target = options.csv
    if target is not None:
        target = target / f"{slug(device_name('cpu'))}.csv" if target.is_dir() else target
        check_csv(target)
    torch.set_num_threads(options.threads)
    facts = machine_facts("cpu", ops.keep_memory())
    height, width = parse_size(options.size)
    setting = Setting("field", "fp32", options.batch, height, width, "cpu", options.threads)
    pair = [FieldSubject(name, options.images) for name in (options.model, options.beside)]
    rows = [row("receptive field", r, facts) for r in measure(pair, setting, options.rounds, options.memory_rounds)]
    print(f"{setting}; {facts['device']}, {facts['threads']} threads, torch {facts['torch']}, {facts['date']}")
    columns = ("subject", "p20_ms", "p50_ms", "p80_ms", "ratio_p20", "ratio_p50", "ratio_p80", "held_mib", "peak_mib")
    print("| " + " | ".join(columns) + " |", "|---" * len(columns) + "|", sep="\n")
    for one in rows:
        print("| " + " | ".join(str(one[column]) for column in columns) + " |")
    if target is not None:
        append_rows(target, rows)


if __name__ == "__main__":
    main()
