"""Measure what int8 costs in accuracy: a trained classifier on its validation images, and networks with random weights.

    foveal train digits.transnext_pico
    python benchmarks/int8_accuracy.py --checkpoint runs/digits.transnext_pico/best.pt

Goals, checked at the end: top-1 falls by at most 0.3 points against fp32, and the mean cosine of the logits is at least
0.999. The random networks are full-sized, with layer scales of 1 so that every branch counts; their images are noise.
"""

import argparse
import sys
import warnings
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import foveal
from foveal.models.layers.layer_scale import LayerScale
from foveal.tasks.classification.data import open_split
from foveal.tasks.classification.digits import default_digits_folder, write_digits
from foveal.tasks.classification.evaluate import EvaluationSettings, check_split, count_answers
from foveal.tasks.classification.int8 import CalibrationImages, quantized
from foveal.tasks.classification.network import Classifier, restore

LARGEST_LOSS, SMALLEST_COSINE = 0.3, 0.999
RANDOM, BATCH = ("transnext_tiny", "transxnet_s"), 4


def trained(checkpoint: Path, data: Path, count: int) -> bool:
    """Print top-1 of a classifier in fp32 and in int8, and their cosine; return whether both goals are reached."""
    classifier = restore(checkpoint)
    int8, report = quantized(classifier, CalibrationImages.find(data, data / "val", count))
    exact, targets = logits(classifier, data)
    found, _ = logits(int8, data)
    cosines = F.cosine_similarity(found, exact)
    top1 = [100 * (answers.argmax(1) == targets).float().mean().item() for answers in (exact, found)]
    print(report, "", sep="\n")
    print(f"{checkpoint}, {len(targets)} images: top-1 {top1[0]:.2f} % in fp32, {top1[1]:.2f} % in int8")
    print(f"cosine of the logits: mean {cosines.mean():.5f}, smallest {cosines.min():.5f}")
    return top1[1] >= top1[0] - LARGEST_LOSS and cosines.mean().item() >= SMALLEST_COSINE


def logits(classifier: Classifier, data: Path) -> tuple[Tensor, Tensor]:
    """Return logits (N, K) and classes (N,) of the validation images."""
    images = open_split(data, "val", classifier.fit.transform())
    check_split(classifier, images, data / "val")
    loader, classes = EvaluationSettings().loader(images), len(images.classes)
    answers = count_answers(classifier.model, loader, torch.device("cpu"), classes, keep=True)
    return torch.cat([kept[0] for kept in answers.kept]), torch.cat([kept[1] for kept in answers.kept])


@torch.no_grad()
def random_network(name: str) -> None:
    """Print the cosine of a network with random weights on other images than those of its calibration."""
    torch.manual_seed(0)
    net = timm.create_model(name).eval()
    for module in net.modules():
        if isinstance(module, LayerScale):
            nn.init.ones_(module.weight)
    images = torch.randn(2 * BATCH, 3, 224, 224)
    found = foveal.quantize(net, images[:BATCH])
    cosine = F.cosine_similarity(found(images[BATCH:]).float(), net(images[BATCH:])).mean()
    print(f"{name}, random weights, 224 pixels: cosine {cosine:.5f}; {found.quantization.summary()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--checkpoint", type=Path, help="a file of foveal train for a classifier; without it only RANDOM"
    )
    parser.add_argument("--data", type=Path, help="its data, with train/ and val/; scikit-learn's digits by default")
    parser.add_argument("--calibration-images", type=int, default=128)
    options = parser.parse_args()
    warnings.simplefilter("ignore", foveal.models.quantized.SlowInt8Warning)
    reached = True
    if options.checkpoint is not None:
        data = options.data or write_digits(default_digits_folder())
        reached = trained(options.checkpoint, data, options.calibration_images)
    for name in RANDOM:
        random_network(name)
    sys.exit(0 if reached else "The accuracy is below the goal.")
