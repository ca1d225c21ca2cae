"""Measure images per second of the data loaders: JPEG photographs, with ImageNet's augmentation at 224 pixels.

    python benchmarks/loading.py --workers 0 1 2

Crops 500 x 400 pixels from scikit-learn's two photographs, writes them as class folders and as tar shards, and loads
an epoch with every number of workers, for both sources in turn, round by round. Images per second depend on the load of
the machine; the CPU time per image in the main process (0 workers) does not.
"""

import argparse
import io
import os
import statistics
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from foveal.tasks.classification.data import open_split
from foveal.tasks.classification.preprocessing import Augmentation, Preprocessing
from foveal.training.loading import Share, train_loader

WIDTH, HEIGHT, CLASSES, BATCH = 500, 400, 2, 32


def jpegs(count: int) -> list[bytes]:
    """Return random crops, half of them flipped."""
    photographs, draw, files = load_sample_images().images, np.random.default_rng(0), []
    for number in range(count):
        whole = photographs[number % CLASSES]
        top, left = (draw.integers(0, side - cut) for side, cut in zip(whole.shape, (HEIGHT, WIDTH)))
        cut = whole[top : top + HEIGHT, left : left + WIDTH, :: 1 if number % 4 < 2 else -1]
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(cut)).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def write(files: list[bytes], folder: Path) -> dict[str, Path]:
    """Write the same images as class folders and as four shards."""
    for number, content in enumerate(files):
        path = folder / "folders" / "train" / str(number % CLASSES) / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "shards").mkdir()
    for shard in range(4):
        with tarfile.open(folder / "shards" / f"train-{shard}.tar", "w") as tar:
            for number in range(shard, len(files), 4):
                for ending, content in (("cls", str(number % CLASSES).encode()), ("jpg", files[number])):
                    info = tarfile.TarInfo(f"{number:06d}.{ending}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    return {"folders": folder / "folders", "shards": folder / "shards"}


def speed(loader, epoch: int) -> tuple[float, float]:
    """Return images per second and milliseconds of this process per image, from the second batch on: the first
    includes the start of the workers."""
    batches = loader.epoch(epoch)
    next(batches)
    started, busy, images = time.perf_counter(), time.process_time(), 0
    for _, labels in batches:
        images += len(labels)
    return images / (time.perf_counter() - started), (time.process_time() - busy) / images * 1e3


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)  # as in a worker process
    files = jpegs(options.images)
    size = statistics.mean(map(len, files)) / 1024
    print(f"{len(files)} JPEGs of {WIDTH} x {HEIGHT}, {size:.0f} KiB on average; {len(os.sched_getaffinity(0))} CPUs")
    with tempfile.TemporaryDirectory() as folder:
        loaders = {}
        for source, place in write(files, Path(folder)).items():
            images = open_split(place, "train", Augmentation().transform(Preprocessing((224, 224))))
            for workers in options.workers:
                draws = len(files) // BATCH * BATCH
                loaders[source, workers] = train_loader(images, BATCH, draws, Share(), 0, workers)
        rounds = [{case: speed(loader, n) for case, loader in loaders.items()} for n in range(options.rounds)]
    print("source   workers  images/s  per worker  CPU ms/image  (medians)")
    for source, workers in loaders:
        images, busy = (statistics.median(result[source, workers][n] for result in rounds) for n in range(2))
        alone = "" if workers else f"{busy:.2f}"
        print(f"{source:<8} {workers:>7} {images:>9.0f} {images / max(workers, 1):>11.0f} {alone:>13}")


if __name__ == "__main__":
    main()
