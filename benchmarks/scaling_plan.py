"""Write the page docs/scaling.md: cost of the 300-epoch recipes on many GPUs, computed and not measured.

``python benchmarks/scaling_plan.py --measure > docs/scaling.md``; every assumption is an option. ``--measure`` adds the
only measurement: training throughput of one process on this machine.
"""

import argparse
import os
import time
from dataclasses import dataclass
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

import foveal
from foveal.tasks.classification.recipes import Recipe, get_recipe
from foveal.tasks.classification.task import ClassificationTask
from foveal.training.batching import split_batch

RECIPES = [
    *(f"imagenet.transnext_{size}" for size in ("micro", "tiny", "small", "base")),
    "imagenet.transnext_micro_aaaa_256",
    *(f"imagenet.transxnet_{size}" for size in ("t", "s", "b")),
]
GPUS = (8, 64, 512)
IMAGES = ClassificationTask.known_sets["imagenet"].count
GRADIENT_BYTES = 4  # gradients are float32 in any precision
NODE = 8  # GPUs that share the fast network


class Operators(TorchDispatchMode):
    """Count operators that compute something, on a GPU roughly the number of kernel launches."""

    FREE = ("view", "reshape", "permute", "transpose", "slice", "select", "expand", "detach", "split", "as_strided")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.__name__.split(".")[0].removeprefix("_").removeprefix("unsafe_")
        self.count += not (name.startswith(self.FREE) or name in ("t", "alias", "unbind", "squeeze", "unsqueeze"))
        return function(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Work:
    """Work of one recipe: parameters, multiply-adds, kernel launches, synchronised batch norm."""

    recipe: Recipe
    params: int
    macs: int
    launches: int
    """Operators of a forward pass."""
    norm_layers: int
    norm_channels: int
    """Channels of batch norm layers that processes synchronise; 0 without."""

    @classmethod
    def of(cls, name: str) -> "Work":
        recipe = get_recipe(name)
        with torch.device("meta"):
            net = timm.create_model(recipe.model)
            operators = Operators()
            with operators:
                net(torch.empty(2, 3, *recipe.fit.size))
        norms = [m for m in net.modules() if isinstance(m, _BatchNorm)] if recipe.train.sync_bn else []
        count = foveal.flops(net, recipe.fit.size)
        return cls(recipe, count.params, count.macs, operators.count, len(norms), sum(m.num_features for m in norms))

    def gradient_bytes(self, gpus: int) -> float:
        """Return the bytes that each GPU sends and receives in a ring all-reduce of all gradients."""
        return 2 * (gpus - 1) / gpus * self.params * GRADIENT_BYTES

    def norm_bytes(self, gpus: int, passes: int) -> float:
        """Return the bytes that each GPU receives: forward, mean, inverse deviation and count of every layer from all
        other GPUs (gathered); backward, two sums per channel (ring)."""
        gathered = (gpus - 1) * (2 * self.norm_channels + self.norm_layers) * 4
        reduced = 2 * (gpus - 1) / gpus * 2 * self.norm_channels * 4
        return passes * (gathered + reduced)


@dataclass(frozen=True)
class Prediction:
    """Prediction for one recipe on a number of GPUs; times are seconds per update."""

    gpus: int
    images: int
    passes: int
    sent: float
    compute: float
    launching: float
    network: float
    updates: int

    @property
    def seconds(self) -> float:
        """Seconds per update. Computing and launching overlap; communication is assumed not to."""
        return max(self.compute, self.launching) + self.network

    @property
    def hours(self) -> float:
        return self.updates * self.seconds / 3600


def predict(work: Work, gpus: int, given: argparse.Namespace) -> Prediction:
    """Predict the time of an update from the assumptions in ``given``."""
    train = work.recipe.train
    cut = split_batch(train.batch_size, gpus)
    images = cut.device * cut.accumulation
    bandwidth = 1e9 * (given.node_gb_per_s if gpus <= NODE else given.network_gb_per_s)
    sent = work.gradient_bytes(gpus) + work.norm_bytes(gpus, cut.accumulation)
    messages = 2 * work.norm_layers * cut.accumulation + 1
    return Prediction(
        gpus=gpus,
        images=images,
        passes=cut.accumulation,
        sent=sent,
        compute=images * 3 * 2 * work.macs / (given.peak_tflops * 1e12 * given.utilisation),
        launching=cut.accumulation * 3 * work.launches * given.launch_us * 1e-6,
        network=sent / bandwidth + messages * given.message_us * 1e-6,
        updates=IMAGES // train.batch_size * train.total_epochs,
    )


def page(given: argparse.Namespace) -> str:
    """Return the page as Markdown."""
    works = [Work.of(name) for name in RECIPES]
    return "\n\n".join(
        [
            "# Scale on paper",
            "What the papers' recipes would take on 8, 64 and 512 GPUs. **Predicted, not measured: no recipe has "
            "been run on a GPU here.** This page is the output of `python benchmarks/scaling_plan.py --measure`; every "
            "assumption is a command-line option.",
            assumptions(given),
            "## What a recipe requires\n\nCounted: parameters, multiply-adds (`foveal.flops`), computing operators "
            "of a forward pass (on the meta device; roughly the kernel launches), synchronised batch norms.",
            table(
                ["recipe", "params M", "MACs G", "operators", "BN layers", "updates"],
                [asked(w, given) for w in works],
            ),
            "## Predicted\n\n`sent`: MB that each GPU sends in an update. `bound`: the limiting factor: arithmetic, "
            "kernel launches, or the network. `images/s` is what loading and decoding must deliver for all GPUs.",
            table(
                [
                    "recipe",
                    "GPUs",
                    "images per GPU",
                    "sent MB",
                    "ms per update",
                    "bound",
                    "images/s",
                    "hours",
                    "cost $",
                ],
                [row(w, predict(w, gpus, given), given) for w in works for gpus in GPUS],
            ),
            READING,
            *([measured()] if given.measure else []),
        ]
    )


READING = """## How to read it

- **The batch stays 1,024**, since the recipe's learning rates depend on it. 8 GPUs get 128 images each, 64 get 16,
  512 get 2. With less than one image per GPU and pass, GPUs would idle beyond 1,024; and mixup mixes
  pairs, so these recipes can use at most 512.
- **At 512 GPUs** a kernel works on two images and takes less time than its launch. Eight times the GPUs of the row
  above are then barely faster and cost almost eight times as much. What would help is fewer launches (`--compile`, CUDA
  graphs; over half of TransNeXt's launches arrange the position bias, in every pass), or a larger batch,
  which is a different recipe and needs its own proof of accuracy.
- **Batch norm** in TransXNet synchronises every layer twice per pass: hundreds of small messages, whose latency
  counts, not their size.
- **Utilisation** was measured once, after this page was written: a training step of TransNeXt-T on an H200 (bf16,
  batch 64) ran at 273 images/s (performance.md), which is 1% of the peak above and not 5%. `--utilisation` sets it.
- **Not included:** data loading that cannot keep up, evaluation after each epoch, failures, stragglers, communication
  that overlaps with the backward pass (so the network's share may be too high, by up to all of it)."""


def assumptions(given: argparse.Namespace) -> str:
    """Return all values that are neither counted nor measured, with their origin."""
    rows = [
        ["peak of a GPU", f"{given.peak_tflops:g} TFLOP/s", "H100 SXM, bf16, dense: NVIDIA's data sheet (A100: 312)"],
        [
            "utilisation",
            f"{given.utilisation:.0%} of it",
            "a guess at what such networks reach; rows bound by arithmetic scale with it",
        ],
        ["arithmetic", "2 FLOP per multiply-add, x 3", "forward once, backward twice as much"],
        ["a launch", f"{given.launch_us:g} us", "a guess, of PyTorch without compilation or CUDA graphs"],
        [
            "network, up to 8 GPUs",
            f"{given.node_gb_per_s:g} GB/s per GPU",
            "NVLink 4, one direction: NVIDIA's data sheet",
        ],
        ["network, beyond", f"{given.network_gb_per_s:g} GB/s per GPU", "one 400 Gbit/s link each"],
        ["a message", f"{given.message_us:g} us", "a guess, plus the time for its bytes"],
        ["all-reduce", "ring: 2 (n - 1) / n x 4 bytes per parameter", "float32 gradients, once per update"],
        ["price", f"{given.price:g} $ per GPU hour", "a guess"],
        ["images", f"{IMAGES:,}", "ImageNet-1K, training set"],
    ]
    return "## Assumptions\n\n" + table(["what", "taken as", "origin"], rows)


def asked(work: Work, given: argparse.Namespace) -> list[Any]:
    """Return one row of counts."""
    updates = predict(work, GPUS[0], given).updates
    params, macs = f"{work.params / 1e6:.2f}", f"{work.macs / 1e9:.2f}"
    return [work.recipe.name, params, macs, work.launches, work.norm_layers, f"{updates:,}"]


def row(work: Work, p: Prediction, given: argparse.Namespace) -> list[Any]:
    """Return one row of predictions."""
    parts = {"arithmetic": p.compute, "launches": p.launching, "network": p.network}
    return [
        work.recipe.name,
        p.gpus,
        p.images,
        f"{p.sent / 1e6:.0f}",
        f"{p.seconds * 1e3:.0f}",
        max(parts, key=lambda name: parts[name]),
        f"{work.recipe.train.batch_size / p.seconds:,.0f}",
        f"{p.hours:.1f}",
        f"{p.hours * p.gpus * given.price:,.0f}",
    ]


def table(titles: list[str], rows: list[list[Any]]) -> str:
    """Return a Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def measured(batch: int = 8, steps: int = 3) -> str:
    """Measure the training throughput of this process on this machine's CPU."""
    rows = []
    for name in ("transnext_atto", "transnext_micro", "transxnet_t"):
        net = timm.create_model(name).train().to(memory_format=torch.channels_last)
        rows.append([name, f"{throughput(net, batch, steps):.2f}"])
    load = os.getloadavg()[0]
    return (
        "## Measured\n\nThe only measurement on this page: training (forward, loss, backward, AdamW) in float32 at "
        f"224 pixels, device batch {batch}, one process with {torch.get_num_threads()} threads on a CPU "
        f"({torch.backends.cpu.get_cpu_capability()}), best of {steps} steps, images generated in advance. The "
        f"machine's load average was {load:.1f}"
        f"{', so others were computing at the same time: a lower bound' * (load > 3)}.\n\n"
    ) + table(["model", "images/s"], rows)


def throughput(net: nn.Module, batch: int, steps: int) -> float:
    """Return images per second of the fastest step, after one warm-up step."""
    optimizer = torch.optim.AdamW(net.parameters())
    images, targets = torch.randn(batch, 3, 224, 224), torch.zeros(batch, dtype=torch.long)
    seconds = []
    for _ in range(steps + 1):
        started = time.perf_counter()
        F.cross_entropy(net(images), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - started)
    return batch / min(seconds[1:])


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peak-tflops", type=float, default=989.0)
    parser.add_argument("--utilisation", type=float, default=0.05)
    parser.add_argument("--launch-us", type=float, default=6.0)
    parser.add_argument("--node-gb-per-s", type=float, default=450.0)
    parser.add_argument("--network-gb-per-s", type=float, default=50.0)
    parser.add_argument("--message-us", type=float, default=30.0)
    parser.add_argument("--price", type=float, default=2.5)
    parser.add_argument("--measure", action="store_true")
    print(page(parser.parse_args()))


if __name__ == "__main__":
    main()
