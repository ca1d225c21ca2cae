"""How blocky receptive fields are: TransNeXt's beside those of networks with windows and of convolutions.

    python benchmarks/blockiness.py
    python benchmarks/blockiness.py --pretrained

``foveal.explain.blockiness`` of the effective receptive field of each stage: the share of a field's edges that recur
with the side of a window, 7 tokens, between 0 and 1. The field is the mean over photographs of scikit-image and
scikit-learn. Random weights are drawn for each of some seeds, with layer scales of 1, since with their usual 1e-6 a
network's branches have no effect; the papers' pictures are of trained weights, which --pretrained downloads.
"""

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from entropy import photographs
from PIL import Image
from torch import nn

from foveal.errors import FovealError
from foveal.explain import EffectiveReceptiveField, ReceptiveFields, blockiness
from foveal.explain.field_measures import WINDOW
from foveal.explain.token_grid import stride_of
from foveal.models.layers.layer_scale import LayerScale
from foveal.report.explanation.subject import Subject, create_subject

MODELS = ("transnext_tiny", "transxnet_s", "swin_tiny_patch4_window7_224", "convnext_tiny")
BATCH = 4


def fields(subject: Subject, images: Sequence[Image.Image]) -> ReceptiveFields:
    """Return the mean receptive fields of a network's stages over images."""
    field = EffectiveReceptiveField(subject.body)
    for start in range(0, len(images), BATCH):
        field.add(torch.stack([subject.photograph(image, "").tensor for image in images[start : start + BATCH]]))
    return field.result()


def by_stage(found: ReceptiveFields) -> list[float]:
    """Return the blockiness of every stage on whose map two windows fit along each axis."""
    height = found.contributions.shape[1]
    return [
        blockiness(field, stride_of(height, size[0]))
        for field, size in zip(found.contributions, found.maps, strict=True)
        if min(size) >= 2 * WINDOW
    ]


def with_all_branches(net: nn.Module) -> None:
    """Set the layer scales of our networks and of timm's, their only vectors called gamma, to 1."""
    for module in net.modules():
        scale = module.weight if isinstance(module, LayerScale) else getattr(module, "gamma", None)
        if isinstance(scale, nn.Parameter):
            nn.init.ones_(scale)


def main() -> None:
    """Measure every network with every seed and print the mean, smallest and largest value of each stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seeds", type=int, default=3, help="draws of random weights")
    parser.add_argument("--pretrained", action="store_true", help="released weights, which are downloaded")
    options = parser.parse_args()
    images = photographs()
    print(f"blockiness of stages 1, 2, ...: mean (smallest to largest), {len(images)} images, {options.size} pixels")
    for model in options.models:
        rows = []
        for seed in range(1 if options.pretrained else options.seeds):
            subject = create_subject(model, options.size, pretrained=options.pretrained, seed=seed)
            if not options.pretrained:
                with_all_branches(subject.body)
            try:
                rows.append(by_stage(fields(subject, images)))
            except FovealError as error:  # such as a LayerNorm of random weights after each stage
                print(f"{model:<30} {error}", flush=True)
                break
        if not rows:
            continue
        columns = [f"{np.mean(one):.3f} ({min(one):.3f} to {max(one):.3f})" for one in zip(*rows, strict=True)]
        print(f"{model:<30} " + "  ".join(columns), flush=True)


if __name__ == "__main__":
    main()
