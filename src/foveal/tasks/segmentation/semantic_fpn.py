"""Semantic FPN: the maps of a feature pyramid, each refined and grown to the finest one's size, and their sum.

Kirillov, Girshick, He, Dollár, "Panoptic Feature Pyramid Networks", arXiv:1901.02446, section 3. Settings are those
of the published segmenters; what agrees with the released ones is in docs/released_segmenters.md.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from foveal.tasks.dense.backbone import DenseBackbone
from foveal.tasks.dense.pyramid import FeaturePyramid
from foveal.tasks.segmentation.segmenter import PixelSegmenter, init_weights


class ConvNorm(nn.Module):
    """A 3x3 convolution, batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class SemanticHead(nn.Module):
    """From maps of strides 4, 8, 16 and 32 to logits at stride 4.

    The finest map has one convolution, every coarser one as many as it is doubled in size. What is then not quite the
    finest map's size, because sizes were rounded up, is resized to it.
    """

    def __init__(self, in_channels: int, channels: int, num_classes: int, levels: int, dropout: float) -> None:
        super().__init__()
        self.scale_heads = nn.ModuleList(_scale_head(in_channels, channels, level) for level in range(levels))
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        init_weights(self)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Logits (B, num_classes, h, w), from maps (B, in_channels, ., .), the first of which has this size."""
        finest, *coarser = (head(m) for head, m in zip(self.scale_heads, maps, strict=True))
        for grown in coarser:
            finest = finest + F.interpolate(grown, size=finest.shape[-2:], mode="bilinear", align_corners=False)
        return self.classifier(self.dropout(finest))


def _scale_head(in_channels: int, channels: int, doublings: int) -> nn.Sequential:
    if not doublings:
        return nn.Sequential(ConvNorm(in_channels, channels))
    layers: list[nn.Module] = []
    for step in range(doublings):
        layers += [ConvNorm(channels if step else in_channels, channels), nn.Upsample(scale_factor=2, mode="bilinear")]
    return nn.Sequential(*layers)


class SemanticFPN(PixelSegmenter):
    """Classes of pixels from a feature pyramid. See ``PixelSegmenter``.

    Args:
        backbone, num_classes: see ``Segmenter``; all four maps of the backbone are used.
        pyramid: of the backbone's maps, without coarser ones.
        decode_head: takes the pyramid's maps.
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


def build(
    backbone: DenseBackbone,
    num_classes: int,
    *,
    pyramid_channels: int = 256,
    channels: int = 128,
    dropout: float = 0.1,
) -> SemanticFPN:
    """A Semantic FPN as published with TransXNet, and smaller ones.

    Args:
        backbone: gives the maps of all four stages.
        num_classes: see ``Segmenter``.
        pyramid_channels: of the feature pyramid.
        channels: of the head.
        dropout: share of channels that are dropped before the classifier, in training.
    """
    pyramid = FeaturePyramid(backbone.channels, pyramid_channels, extra=None)
    head = SemanticHead(pyramid_channels, channels, num_classes, len(backbone.channels), dropout)
    return SemanticFPN(backbone, num_classes, pyramid, head)
