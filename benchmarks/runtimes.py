"""Time exported files beside the optimised network in PyTorch that they came from, in one interleaved run.

    python benchmarks/runtimes.py --models transnext_tiny,transxnet_s --batches 8,1 --threads 2

Weights are random. Every ratio is the median over rounds of the network's time over the file's, in the same precision:
above 1 the file is faster.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import timm
import torch

import foveal
from foveal.export import Subject, export
from foveal.runtime.card import Resizing
from foveal.runtime.session import open_session

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
FILES = (("onnx", "fp32", ".onnx"), ("openvino", "fp32", ".xml"), ("openvino", "bf16", ".xml"))
RESIZING = Resizing(0.875, False, "bicubic", (0.5,) * 3, (0.25,) * 3)


def subjects(name: str, batch: int, size: int, threads: int, folder: Path) -> dict[str, Callable[[], object]]:
    """Return what is timed of a model, by label: "eager fp32", "onnx fp32" and so on."""
    net = timm.create_model(name).eval()
    images = torch.randn(batch, 3, size, size)
    calls: dict[str, Callable[[], object]] = {}
    for precision, dtype in DTYPES.items():
        folded = foveal.optimize(net, dtype)
        calls[f"eager {precision}"] = lambda folded=folded: folded(images)
    classes = tuple(map(str, range(net.num_classes)))
    subject = Subject(net, "classification", name, (size, size), RESIZING, ("logits",), classes)
    for format, precision, ending in FILES:
        path = folder / f"{name}.{batch}.{precision}{ending}"
        done = export(subject, path, format, precision=precision, batch=batch)
        print(
            f"{name}, {format} {precision}, batch {batch}: {done.operators} operators, {done.seconds:.0f} s", flush=True
        )
        session = open_session(path, threads=threads)
        calls[f"{format} {precision}"] = lambda session=session: session.run(images.numpy())
    return calls


def seconds(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time every call in turn, round by round, after two rounds to warm up."""
    taken: dict[str, list[float]] = {label: [] for label in calls}
    with torch.no_grad():
        for number in range(rounds + 2):
            for label, call in calls.items():
                start = time.perf_counter()
                call()
                if number >= 2:
                    taken[label].append(time.perf_counter() - start)
    return taken


def report(name: str, batch: int, taken: dict[str, list[float]]) -> None:
    for label, times in taken.items():
        eager = taken[f"eager {label.split()[1]}"]
        ratios = sorted(one / other for one, other in zip(eager, times, strict=True))
        low, high = ratios[len(ratios) // 5], ratios[-1 - len(ratios) // 5]
        milliseconds, ratio = 1000 * statistics.median(times), statistics.median(ratios)
        print(
            f"{name:<16} {batch:>3}  {label:<14} {milliseconds:7.0f} ms  {ratio:.2f} ({low:.2f} to {high:.2f})",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="transnext_tiny,transxnet_s")
    parser.add_argument("--batches", default="8,1")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print("model          batch  what        median time  speed over the optimised network in PyTorch")
    for name in given.models.split(","):
        for batch in map(int, given.batches.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                calls = subjects(name, batch, given.size, given.threads, Path(folder))
                report(name, batch, seconds(calls, given.rounds))


if __name__ == "__main__":
    main()
