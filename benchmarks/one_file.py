"""Compare ONE file of free batch and size with the network that it came from, at many sizes.

    python benchmarks/one_file.py --models transnext_tiny,transxnet_s --files onnx:fp32,openvino:fp32

Weights are random. The error is the largest difference of an output from the eager network in fp32, relative to its
largest output.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch

from foveal.export import FORMATS, Subject, export
from foveal.runtime import open_session
from foveal.runtime.card import Resizing

RESIZING = Resizing(0.875, False, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="transnext_tiny,transxnet_s")
    parser.add_argument("--files", default="onnx:fp32,onnx:fp16,openvino:fp32,openvino:bf16,openvino:fp16")
    parser.add_argument("--sizes", default="224x224,256x320,200x264,384x384", help="height x width in pixels")
    parser.add_argument("--batches", default="1,3")
    options = parser.parse_args()
    sizes = [tuple(map(int, size.split("x"))) for size in options.sizes.split(",")]
    batches = [int(batch) for batch in options.batches.split(",")]
    print("| model | file | batch | " + " | ".join(f"{height} x {width}" for height, width in sizes) + " |")
    print("|---" * (3 + len(sizes)) + "|")
    for model in options.models.split(","):
        torch.manual_seed(0)
        net = timm.create_model(model).eval()
        images = {(batch, *size): draw(batch, *size) for batch in batches for size in sizes}
        with torch.inference_mode():
            expected = {shape: net(torch.from_numpy(x)).numpy() for shape, x in images.items()}
        for file in options.files.split(","):
            report(net, model, *file.split(":"), images, expected)


def draw(batch: int, height: int, width: int) -> np.ndarray:
    """Return the same noise for a shape at each call."""
    return np.random.default_rng(height * width + batch).normal(size=(batch, 3, height, width)).astype(np.float32)


def report(net, model: str, format: str, precision: str, images: dict, expected: dict) -> None:
    """Export a file, run it on all images, and print a row per batch."""
    subject = Subject(net, "classification", model, (224, 224), RESIZING, ("logits",), tuple(map(str, range(1000))))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{model}{FORMATS[format].ending}")
        export(subject, path, format, precision=precision, dynamic=("batch", "size"))
        session = open_session(path)
        errors = {shape: error(session.run(x)["logits"], expected[shape]) for shape, x in images.items()}
    for batch in dict.fromkeys(shape[0] for shape in images):
        row = [f"{errors[shape]:.0e}" for shape in images if shape[0] == batch]
        print(f"| {model} | {format}, {precision} | {batch} | " + " | ".join(row) + " |", flush=True)


def error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


if __name__ == "__main__":
    main()
