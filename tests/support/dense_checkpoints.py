"""Checkpoints of small detectors and segmenters as ``foveal train`` saves them, without training, and photographs."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from foveal.tasks.recipe import BaseRecipe
from foveal.tasks.segmentation.inference import Inference
from support.detectors import small_recipe as detection_recipe
from support.nets import lively
from support.segmentation_recipes import small_recipe as segmentation_recipe

CLASSES = ["cat", "dog", "bird"]
IDS = [7, 3, 12]
#: Factors of weights whose scores would hardly depend on the image.
LIVELIER = {"head.classifier.weight": 4, "head.box.weight": 4}


def detector(path: Path, head: str = "retinanet", backbone: str = "transnext_atto", **options: Any) -> Path:
    """Write a detector that resizes images to a short side of 64 pixels, and a long one of at most 96."""
    recipe = detection_recipe(head, backbone)
    recipe = replace(recipe, options={**recipe.options, "long": 96, **options})
    return _write(path, recipe, {"detector": head, "category_ids": IDS})


def segmenter(path: Path, head: str, inference: Inference, backbone: str = "transnext_atto") -> Path:
    """Write a segmenter that was trained on crops of 64 pixels."""
    recipe = segmentation_recipe(head, backbone)
    own = {"segmenter": head, "augmentation": asdict(recipe.augment), "inference": asdict(inference)}
    return _write(path, recipe, {**own, "zero_ignored": False})


def photographs(folder: Path, *sizes: tuple[int, int]) -> list[Path]:
    """Write coloured noise of these (height, width), coarse enough to survive resizing."""
    draw = np.random.default_rng(0)
    paths = []
    for number, (height, width) in enumerate(sizes):
        coarse = Image.fromarray(draw.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        paths.append(folder / f"{number}.png")
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def _write(path: Path, recipe: BaseRecipe, own: dict[str, Any]) -> Path:
    torch.manual_seed(0)
    net = lively(recipe.create(len(CLASSES)))
    for name, parameter in net.named_parameters():
        parameter.data *= LIVELIER.get(name, 1)
    same = {name: getattr(recipe, name) for name in ("model", "model_args", "options")}
    card = {"task": recipe.kind, "recipe": recipe.name, "classes": CLASSES, **same, **own}
    torch.save({"model": net.state_dict(), "card": card}, path)
    return path
