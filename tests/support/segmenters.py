"""Small segmenters, segmenters with known answers, and a synthetic dataset of label maps."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.errors import BrokenSample
from foveal.tasks.dense.model import DenseBackbone
from foveal.tasks.segmentation.segmenter import IGNORED, Segmenter


class TinySegmenter(Segmenter):
    """A minimal head: class scores of every feature map, resized and summed."""

    def __init__(self, backbone: DenseBackbone, num_classes: int) -> None:
        super().__init__(backbone, num_classes)
        self.heads = nn.ModuleList(nn.Conv2d(channels, num_classes, 1) for channels in backbone.channels)

    def scores(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        own = [head(one) for head, one in zip(self.heads, maps, strict=True)]
        return torch.stack([F.interpolate(one, size=size, mode="bilinear") for one in own]).sum(0)

    def losses(self, maps: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        scores = self.scores(maps, (labels.shape[-2], labels.shape[-1]))
        total = F.cross_entropy(scores, labels, ignore_index=IGNORED, reduction="sum")
        return {"loss_class": total / (labels != IGNORED).sum().clamp(min=1)}


def tiny_segmenter(num_classes: int = 3, backbone: str = "transnext_atto", **options) -> TinySegmenter:
    """A segmenter on the smallest backbone of a family with one block per stage and fixed weights, in training mode."""
    torch.manual_seed(0)
    settings = {"reference_size": 64, "args": dict(depths=(1, 1, 1, 1)), **options}
    return TinySegmenter(DenseBackbone(backbone, **settings), num_classes)


class KnownScores(Segmenter):
    """Returns ``answer(images)`` as scores (B, num_classes, H, W) of images (B, 3, H, W); in evaluation mode."""

    def __init__(self, answer: Callable[[Tensor], Tensor], num_classes: int = 1, softmax: bool = True) -> None:
        super().__init__(nn.Identity(), num_classes)
        self.answer, self.softmax = answer, softmax
        self.eval()

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.answer(images)

    def probabilities(self, scores: Tensor) -> Tensor:
        return super().probabilities(scores) if self.softmax else scores


CLASSES = ["wall", "sky", "tree", "door", "lamp"]  # no pixel is a door but some are predicted as one; there is no lamp


class MadeLabelMaps:
    """Images (3, H, W) and labels (H, W) of various sizes; red times 5 is the prediction of ``by_red``."""

    classes = CLASSES

    def __init__(self, images: int = 5, broken: tuple[int, ...] = ()) -> None:
        self.broken, self.items = broken, [self._make(number) for number in range(images)]

    def _make(self, number: int) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(number)
        size = (7 + number, 11 - number)
        labels = torch.randint(0, 3, size, generator=draw)
        other = torch.randint(0, 4, size, generator=draw)
        answers = torch.where(torch.rand(size, generator=draw) < 0.6, labels, other)
        labels[torch.rand(size, generator=draw) < 0.1] = IGNORED
        image = torch.rand(3, *size, generator=draw)
        image[0] = answers / 5
        return image, labels

    def answers(self, number: int) -> Tensor:
        """Return the prediction of ``by_red`` for an image, (H, W) int64."""
        return (5 * self.items[number][0][0]).round().long()

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        if number in self.broken:
            raise BrokenSample(f"{number}.png", f"{number}.png is not a readable image: replace it.")
        return self.items[number]


def by_red() -> KnownScores:
    """A segmenter that predicts the class of a pixel from its red value: 0 to 0.8 in steps of 0.2."""
    places = torch.arange(5).view(5, 1, 1)
    return KnownScores(lambda images: -10 * (5 * images[:, :1] - places.to(images.device)).abs(), num_classes=5)
