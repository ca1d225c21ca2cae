"""Time and memory of one training step of Mask R-CNN, or of inference, on TransNeXt-T and on timm's Swin-T with the
same head.

    python benchmarks/detection_step.py --csv benchmarks/results
    python benchmarks/detection_step.py --mode inference --beside convnext_tiny

A step is forward, the sum of the losses, and backward, without an optimiser, on random images with eight objects each.
Time: both models alternate in this process, so that each ratio compares adjacent measurements. Memory: each measurement
runs in a separate process, alternating as well; it is the peak beyond weights and inputs, gradients included, with an
allocator that returns memory at once. Ratios are reported as 20th, 50th and 80th percentile over the rounds.
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from foveal import ops
from foveal.bench.machine import device_name, machine_facts, slug
from foveal.bench.measure import Spread, peak_on_cpu, ratios
from foveal.bench.results import Result, append_rows, check_csv, row
from foveal.bench.run import MeasurementSettings, run_setting
from foveal.bench.settings import Setting, parse_size
from foveal.bench.subjects import Prepared
from foveal.tasks.detection import Detector, create_detector

OBJECTS = 8  # COCO's training images have 7.3 on average
DROP_PATH = 0.2
FIXED_SIZE = ("swin",)  # prefixes of models built for a fixed size


@dataclass(frozen=True)
class DetectorSubject:
    """A detector on a backbone, as a subject of ``foveal.bench``."""

    backbone: str
    detector: str = "mask_rcnn"
    form: str = "eager"

    @property
    def name(self) -> str:
        return f"{self.detector} {self.backbone}"

    def prepare(self, setting: Setting) -> Prepared:
        torch.manual_seed(0)
        size = (setting.height, setting.width)
        args = {"img_size": size} if self.backbone.startswith(FIXED_SIZE) else None
        net = create_detector(self.detector, self.backbone, drop_path=DROP_PATH, backbone_args=args)
        images = [torch.rand(3, *size) for _ in range(setting.batch)]
        if setting.mode == "inference":
            held = sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers(), *images))
            return Prepared(_inference(net.eval(), images, setting), held)
        targets = [random_target(*size) for _ in images]
        inputs = [*images, *(value for target in targets for value in target.values())]
        held = sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers(), *inputs))
        return Prepared(_step(net.train(), images, targets, setting), held)


def random_target(height: int, width: int) -> dict[str, Tensor]:
    """Return random objects between a tenth and half of the image's sides, whose masks fill their boxes."""
    size = torch.tensor([width, height])
    sides = size * (0.1 + 0.4 * torch.rand(OBJECTS, 2))
    corners = (size - sides) * torch.rand(OBJECTS, 2)
    boxes = torch.cat([corners, corners + sides], dim=1)
    masks = torch.zeros(OBJECTS, height, width, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.round().int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    return {"boxes": boxes, "labels": torch.randint(0, 80, (OBJECTS,)), "masks": masks}


def _step(net: Detector, images: list[Tensor], targets: list[dict[str, Tensor]], setting: Setting) -> Callable:
    def call() -> None:
        with setting.autocast():
            losses = net(images, targets)
        sum(losses.values()).backward()
        net.zero_grad(set_to_none=True)

    return call


def _inference(net: Detector, images: list[Tensor], setting: Setting) -> Callable:
    def call() -> None:
        with torch.inference_mode(), setting.autocast():
            net(images)

    return call


def measure(pair: list[DetectorSubject], setting: Setting, rounds: int, memory_rounds: int) -> list[Result]:
    """Return times of both, with the second as baseline, and their median peaks; print the ratio of the peaks."""
    outcome = run_setting(pair, setting, MeasurementSettings(rounds, memory=False), lambda subject: pair[1])
    if outcome.left_out:
        raise SystemExit(f"{outcome.left_out[0].name}: {outcome.left_out[0].reason}")
    peaks: dict[DetectorSubject, list[int]] = {subject: [] for subject in pair}
    for _ in range(memory_rounds):
        for subject in pair:
            peak = peak_on_cpu(subject, setting)
            if peak is None:
                raise SystemExit(f"{subject.name}: the peak could not be measured: not on Linux, or not enough memory.")
            peaks[subject].append(peak)
    more = Spread.of(ratios(peaks[pair[0]], peaks[pair[1]]))
    print(f"peak of {pair[0].name} over that of {pair[1].name}: {more.p20:.3f}, {more.p50:.3f}, {more.p80:.3f}")
    return [replace(one, peak=round(statistics.median(peaks[one.subject]))) for one in outcome.results]


def main() -> None:
    """Measure, print, and append rows to a file if one is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="transnext_tiny")
    parser.add_argument("--beside", default="swin_tiny_patch4_window7_224")
    parser.add_argument("--detector", default="mask_rcnn")
    parser.add_argument("--size", default="800x1216", help="height x width; whole multiples of 32")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--mode", choices=["training", "inference"], default="training")
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
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
    setting = Setting(options.mode, options.dtype, options.batch, height, width, "cpu", options.threads)
    pair = [DetectorSubject(name, options.detector) for name in (options.backbone, options.beside)]
    rows = [row("detection", r, facts) for r in measure(pair, setting, options.rounds, options.memory_rounds)]
    print(f"{setting}; {facts['device']}, {facts['threads']} threads, torch {facts['torch']}, {facts['date']}")
    columns = ("subject", "p20_ms", "p50_ms", "p80_ms", "ratio_p20", "ratio_p50", "ratio_p80", "held_mib", "peak_mib")
    print("| " + " | ".join(columns) + " |", "|---" * len(columns) + "|", sep="\n")
    for one in rows:
        print("| " + " | ".join(str(one[column]) for column in columns) + " |")
    if target is not None:
        append_rows(target, rows)


if __name__ == "__main__":
    main()
