"""Measure what int8 costs and gains in exported files, with ONNX Runtime and OpenVINO.

    foveal train digits.transnext_pico
    python benchmarks/int8_files.py --checkpoint runs/digits.transnext_pico/best.pt
    python benchmarks/int8_files.py --model transnext_tiny

With a checkpoint: top-1 of its files in fp32 and int8 on the validation images. With a model, which has random weights:
the time of a call in int8 over that in fp32 in the same runtime. All files of a batch size take turns in one process,
so that each ratio compares adjacent calls; ratios are reported as 20th, 50th and 80th percentile over the rounds.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from foveal.bench.measure import Spread, ratios
from foveal.cli.commands.export import ExportOptions
from foveal.cli.commands.export import main as foveal_export
from foveal.runtime import Session, open_session
from foveal.runtime.classification import predict
from foveal.tasks.classification.data import open_split
from foveal.tasks.classification.digits import default_digits_folder, write_digits

FORMATS, PRECISIONS = {"onnx": ".onnx", "openvino": ".xml"}, ("fp32", "int8")


def exported(options: ExportOptions, folder: Path, threads: int | None) -> dict[tuple[str, str], Session]:
    """Export a network in both precisions and open the files, by format and precision."""
    for precision in PRECISIONS:
        images = {} if precision == "int8" else {"calibration": None, "calibration_images": None}
        foveal_export(replace(options, precision=precision, out=folder / precision, **images))
    return {
        (name, precision): open_session(folder / f"{precision}{ending}", threads=threads)
        for name, ending in FORMATS.items()
        for precision in PRECISIONS
    }


def accuracy(sessions: dict[tuple[str, str], Session], data: Path) -> None:
    """Print top-1 of every file on the validation images of a data set in folders."""
    images = open_split(data, "val", None)
    paths, targets = [str(data / "val" / name) for name in images.names], images.targets
    for (name, precision), session in sessions.items():
        found = [one.guesses[0].index for one in predict(session, paths, top_k=1)]
        print(f"{name} {precision}: top-1 {100 * np.mean(np.equal(found, targets)):.2f} % of {len(paths)} images")


def speed(sessions: dict[tuple[str, str], Session], batch: int, size: int, rounds: int) -> None:
    """Print the time of every file, and of int8 over fp32 in the same runtime."""
    images = np.random.default_rng(0).normal(size=(batch, 3, size, size)).astype(np.float32)
    seconds: dict[tuple[str, str], list[float]] = {which: [] for which in sessions}
    for number in range(rounds + 1):
        for which, session in sessions.items():
            start = time.perf_counter()
            session.run(images)
            if number:  # the first round warms up
                seconds[which].append(time.perf_counter() - start)
    for name in FORMATS:
        exact, int8 = (seconds[name, precision] for precision in PRECISIONS)
        ratio = Spread.of(ratios(int8, exact))
        print(
            f"{name}, batch {batch}, {size} x {size}: fp32 {1e3 * np.median(exact):.1f} ms, "
            f"int8 {1e3 * np.median(int8):.1f} ms, ratio {ratio.p20:.3f}, {ratio.p50:.3f}, {ratio.p80:.3f}"
        )


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="a file of foveal train for a classifier")
    parser.add_argument("--data", type=Path, help="its data, with train/ and val/; scikit-learn's digits by default")
    parser.add_argument("--model", help="a model to time, with random weights")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 1])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, help="that a runtime computes with; its own choice by default")
    parser.add_argument("--calibration-images", type=int, default=128)
    options = parser.parse_args()
    if options.checkpoint is None and options.model is None:
        parser.error("pass --checkpoint, --model or both.")
    if options.rounds < 2:
        parser.error("--rounds must be at least 2.")
    data = options.data or write_digits(default_digits_folder())
    common = ExportOptions(
        format=",".join(FORMATS), calibration=data / "train", calibration_images=options.calibration_images
    )
    with tempfile.TemporaryDirectory() as folder:
        if options.checkpoint is not None:
            given = replace(common, checkpoint=options.checkpoint, batch=8)
            accuracy(exported(given, Path(folder, "trained"), options.threads), data)
        for batch in options.batches if options.model else ():
            given = replace(common, model=options.model, pretrained=False, size=(options.size,), batch=batch)
            sessions = exported(given, Path(folder, f"batch{batch}"), options.threads)
            speed(sessions, batch, options.size, options.rounds)


if __name__ == "__main__":
    main()
