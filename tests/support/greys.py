"""A classifier with known outputs: for a grey image, the logits are the row of a table for that grey level."""

from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from foveal.tasks.classification.network import Classifier
from foveal.tasks.classification.preprocessing import Preprocessing

SIDE = 8


class Greys(nn.Module):
    """Maps constant grey images (B, 3, H, W), with 256 levels from 0 to 1, to rows of ``table`` (256, classes)."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table)

    def forward(self, images: Tensor) -> Tensor:
        return self.table[(255 * images.mean((1, 2, 3))).round().long()]


def random_table(classes: int = 1000) -> Tensor:
    return torch.randn(256, classes, generator=torch.Generator().manual_seed(3))


def grey_classifier(table: Tensor, size: int = SIDE) -> Classifier:
    """With 1,000 columns in the table, it looks like a classifier with released ImageNet weights."""
    fit = Preprocessing((size, size), crop=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return Classifier("greys", Greys(table), [str(index) for index in range(table.shape[1])], fit, trained_here=False)


def write_greys(folder: Path, greys: Mapping[str, list[int]]) -> None:
    """Write ``folder/<class>/<number>.png`` with the given grey levels."""
    for name, values in greys.items():
        (folder / name).mkdir(parents=True)
        for number, grey in enumerate(values):
            Image.new("RGB", (SIDE, SIDE), (grey,) * 3).save(folder / name / f"{number:03}.png")
