"""A classifier whose answer is known beforehand: grey images, and logits that are a row of a table for each grey."""

from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from foveal.tasks.classification.network import Classifier
from foveal.tasks.classification.preprocessing import Preprocessing

SIDE = 8


class Greys(nn.Module):
    """(B, 3, H, W) of one grey each, 0 to 1 in 256 steps, to rows of ``table`` (256, classes)."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table)

    def forward(self, images: Tensor) -> Tensor:
        return self.table[(255 * images.mean((1, 2, 3))).round().long()]


def random_table(classes: int = 1000) -> Tensor:
    return torch.randn(256, classes, generator=torch.Generator().manual_seed(3))


def grey_classifier(table: Tensor, size: int = SIDE) -> Classifier:
    """As if the weights were released ones for ImageNet, where the table has 1,000 columns."""
    fit = Preprocessing((size, size), crop=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return Classifier("greys", Greys(table), [str(index) for index in range(table.shape[1])], fit, trained_here=False)


def write_greys(folder: Path, greys: Mapping[str, list[int]]) -> None:
    """``folder/<class>/<number>.png`` of these greys."""
    for name, values in greys.items():
        (folder / name).mkdir(parents=True)
        for number, grey in enumerate(values):
            Image.new("RGB", (SIDE, SIDE), (grey,) * 3).save(folder / name / f"{number:03}.png")
