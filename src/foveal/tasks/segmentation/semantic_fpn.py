"""Semantic FPN: the maps of a feature pyramid, refined, upsampled to the finest one's size, and summed.

Kirillov, Girshick, He, Dollár, "Panoptic Feature Pyramid Networks", arXiv:1901.02446, section 3. For agreement with the
released segmenters see docs/released_segmenters.md.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from foveal.tasks.dense.model import DenseBackbone, FeaturePyramid
from foveal.tasks.segmentation.segmenter import PixelSegmenter, init_weights


@dataclass(frozen=True)
class Settings:
    """Options of Semantic FPN, by default as published with TransXNet."""

    pyramid_channels: int = 256
    """Channels of the feature pyramid."""
    channels: int = 128
    """Channels of the head."""
    dropout: float = 0.1
    """Dropout rate of channels before the classifier."""


class ConvNorm(nn.Module):
    """3x3 convolution, batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class SemanticHead(nn.Module):
    """Compute logits at stride 4 from maps of strides 4, 8, 16 and 32.

    The finest map passes one convolution, each coarser one as many as it is doubled in size. If the result differs from
    the finest map's size, because sizes were rounded up, it is resized.
    """

    def __init__(self, in_channels: int, channels: int, num_classes: int, levels: int, dropout: float) -> None:
        super().__init__()
        self.scale_heads = nn.ModuleList(_scale_head(in_channels, channels, level) for level in range(levels))
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        init_weights(self)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return logits (B, num_classes, h, w), given maps (B, in_channels, ., .), the first of size (h, w)."""
        finest, *coarser = (head(m) for head, m in zip(self.scale_heads, maps, strict=True))
        for upsampled in coarser:
            finest = finest + F.interpolate(upsampled, size=finest.shape[-2:], mode="bilinear", align_corners=False)
        return self.classifier(self.dropout(finest))


def _scale_head(in_channels: int, channels: int, doublings: int) -> nn.Sequential:
    if not doublings:
        return nn.Sequential(ConvNorm(in_channels, channels))
    layers: list[nn.Module] = []
    for step in range(doublings):
        layers += [ConvNorm(channels if step else in_channels, channels), nn.Upsample(scale_factor=2, mode="bilinear")]
    return nn.Sequential(*layers)


class SemanticFPN(PixelSegmenter):
    """Semantic FPN. See ``PixelSegmenter``.

    Args:
        backbone, num_classes: see ``Segmenter``; all four maps of the backbone are used.
        pyramid: feature pyramid of the backbone's maps, without coarser ones.
        decode_head: head on the pyramid's maps.
    """

    released_renames = (
        (r"^neck\.lateral_convs\.(\d+)\.conv\.", r"pyramid.lateral.\1."),
        (r"^neck\.fpn_convs\.(\d+)\.conv\.", r"pyramid.output.\1."),
        (r"^decode_head\.conv_seg\.", "decode_head.classifier."),
    )

    def __init__(
        self, backbone: DenseBackbone, num_classes: int, pyramid: FeaturePyramid, decode_head: SemanticHead
    ) -> None:
        super().__init__(backbone, num_classes)
        self.pyramid, self.decode_head = pyramid, decode_head

    def logits(self, maps: list[Tensor]) -> Tensor:
        return self.decode_head(self.pyramid(maps))


def build(backbone: DenseBackbone, num_classes: int, settings: Settings) -> SemanticFPN:
    """Build Semantic FPN on a ``backbone`` with the maps of all four stages."""
    pyramid = FeaturePyramid(backbone.channels, settings.pyramid_channels, extra=None)
    levels = len(backbone.channels)
    head = SemanticHead(settings.pyramid_channels, settings.channels, num_classes, levels, settings.dropout)
    return SemanticFPN(backbone, num_classes, pyramid, head)
