"""Measure `foveal predict` over many files beside its network alone, and its memory by the number of files.

    python benchmarks/predicting.py
    python benchmarks/predicting.py --model transxnet_atto --files 400 --rounds 3

The files are photographs of scikit-image, cropped to about 500 x 400 pixels and saved as JPEG. In every round the
command predicts on all of them with --workers 1, and then the network alone on as many ready tensors, in the same
process and in batches of the same size; the ratio of both speeds is reported as 20th, 50th and 80th percentile over the
rounds. The command's time is that of all it does except Python's imports: it also restores the network. Peak memory is
that of processes of their own.
"""

import argparse
import contextlib
import inspect
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

import foveal  # noqa: F401  (registers the models)
from foveal.bench.measure import Spread, ratios
from foveal.cli.app import main as run_command
from foveal.ops import keep_memory
from foveal.tasks.classification.predict import ClassPredictor

BATCH = inspect.signature(ClassPredictor).parameters["batch_size"].default
SOURCES = ("astronaut", "chelsea", "coffee", "rocket")


def write_photographs(folder: Path, count: int) -> None:
    """Write random crops of scikit-image's photographs, enlarged where they are small."""
    from skimage import data

    draw = np.random.default_rng(0)
    photographs = [Image.fromarray(getattr(data, name)()).convert("RGB").resize((640, 512)) for name in SOURCES]
    for number in range(count):
        width, height = draw.integers(440, 560), draw.integers(350, 450)
        left, top = draw.integers(0, 640 - width + 1), draw.integers(0, 512 - height + 1)
        part = photographs[number % len(photographs)].crop((left, top, left + width, top + height))
        part.save(folder / f"{number:05}.jpg", quality=90)


def write_checkpoint(path: Path, model: str, size: int) -> torch.nn.Module:
    """Write an untrained classifier as `foveal train` does, and return its network."""
    torch.manual_seed(0)
    net = timm.create_model(model, num_classes=10, img_size=size).eval()
    card = {"task": "classification", "model": model, "model_args": {}, "classes": [f"class {n}" for n in range(10)]}
    torch.save({"model": net.state_dict(), "card": {**card, "preprocessing": {"size": (size, size)}}}, path)
    return net


def predict(folder: Path, checkpoint: Path, out: Path, workers: int) -> float:
    """Return the seconds of the command."""
    words = ["predict", folder, "--checkpoint", checkpoint, "--out", out, "--workers", workers]
    start, code = time.perf_counter(), None
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            run_command([str(word) for word in words])
        except SystemExit as leave:
            code = leave.code
    assert not code
    return time.perf_counter() - start


def alone(net: torch.nn.Module, count: int, size: int, batch: int) -> float:
    """Return the seconds of the network on ready tensors, without what is done with its logits."""
    images = torch.randn(batch, 3, size, size)
    start = time.perf_counter()
    with torch.no_grad():
        for first in range(0, count, batch):
            net(images[: min(batch, count - first)])
    return time.perf_counter() - start


def peak_memory(words: list[str]) -> float:
    """Return the peak resident memory of a command of foveal in MiB."""
    process = subprocess.Popen([sys.executable, "-m", "foveal.cli", *words], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0
    return used.ru_maxrss / 1024


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="transnext_atto")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    keep_memory()  # for both alike
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count in {options.files, options.files // 5}:
            (folder / str(count)).mkdir()
            write_photographs(folder / str(count), count)
        checkpoint = folder / "best.pt"
        net = write_checkpoint(checkpoint, options.model, options.size)
        photographs = folder / str(options.files)
        command, network = [], []
        for _ in range(options.rounds):
            command.append(predict(photographs, checkpoint, folder / "answers.csv", options.workers))
            network.append(alone(net, options.files, options.size, BATCH))
        ratio = Spread.of(ratios(network, command))
        command_speed, network_speed = (options.files / np.median(seconds) for seconds in (command, network))
        print(
            f"{options.model} at {options.size} pixels, {options.files:,} files, --workers {options.workers}, "
            f"{torch.get_num_threads()} threads: foveal predict {command_speed:.1f} images/s, network alone "
            f"{network_speed:.1f}, ratio {ratio.p20:.3f}, {ratio.p50:.3f}, {ratio.p80:.3f}"
        )
        for count in (options.files // 5, options.files):
            words = ["predict", str(folder / str(count)), "--checkpoint", str(checkpoint), "--workers", "1", "--json"]
            print(f"peak memory over {count:,} files: {peak_memory(words):.0f} MiB")


if __name__ == "__main__":
    main()
