"""Small detectors and their inputs."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from foveal.tasks.detection import Detector, create_detector
from foveal.tasks.detection.recipes import DetectionRecipe
from foveal.tasks.recipes import get_recipe

SHAPES_MASK_RCNN = "shapes.mask_rcnn_transnext_atto"
SHAPES_RETINANET = "shapes.retinanet_transxnet_atto"
SHAPES_DINO = "shapes.dino_transnext_atto"

SMALL = {
    "mask_rcnn": dict(channels=8, hidden=16, mask_convs=1, anchor_scale=4, proposals=20, box_samples=16, most=10),
    "retinanet": dict(channels=8, convs=1, most=10),
    "dino": dict(
        dim=64,
        heads=4,
        points=2,
        mlp_dim=32,
        encoder_layers=1,
        decoder_layers=2,
        queries=10,
        denoising_queries=4,
        max_detections=10,
    ),
}


def small_detector(name: str, backbone: str = "transxnet_atto", num_classes: int = 3, **options) -> Detector:
    """A detector on the smallest backbone of a family with one block per stage, in training mode."""
    args = dict(depths=(1, 1, 1, 1))
    settings = dict(reference_size=64, backbone_args=args, short=64, long=96)
    return create_detector(name, backbone, num_classes, **{**settings, **SMALL[name], **options})


def small_recipe(name: str, backbone: str | None = None, size: int = 64, **settings) -> DetectionRecipe:
    """A recipe that trains such a detector for two epochs of three updates with two images each."""
    recipe = get_recipe({"mask_rcnn": SHAPES_MASK_RCNN, "retinanet": SHAPES_RETINANET, "dino": SHAPES_DINO}[name])
    recipe = recipe.with_model(backbone or recipe.model).with_size(size)
    train = dict(epochs=2, batch_size=2, lr=1e-4, warmup_epochs=0, workers=0, log_every=1)
    options = {"reference_size": size, "short": size, "long": 2 * size, **SMALL[name]}
    return replace(recipe.with_training(**{**train, **settings}), options=options, model_args=dict(depths=(1, 1, 1, 1)))


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    """An image in [0, 1]."""
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def target(boxes: list[list[float]], labels: list[int], size: tuple[int, int]) -> dict[str, Tensor]:
    """A target whose objects fill their boxes."""
    masks = torch.zeros(len(boxes), *size, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[round(y1) : round(y2), round(x1) : round(x2)] = 1
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": masks,
    }
