"""UPerNet: pyramid pooling on the last map, and a feature pyramid that fuses all four.

Xiao, Liu, Zhou, Jiang, Sun, "Unified Perceptual Parsing for Scene Understanding", arXiv:1807.10221. The heads are those
of transformers, with the dropout and initial weights of the published segmenters. For agreement with the released ones
see docs/released_segmenters.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from foveal.ops.standard import adaptive_pool
from foveal.tasks.dense.create import require_packages
from foveal.tasks.dense.model import DenseBackbone
from foveal.tasks.segmentation.segmenter import PixelSegmenter, init_weights, pixel_cross_entropy

AUXILIARY_STAGE = 2  # the third, of stride 16


class Pool(nn.Module):
    """``nn.AdaptiveAvgPool2d`` to a square that can be exported for any size."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        return adaptive_pool(x, (self.side, self.side))


@dataclass(frozen=True)
class Settings:
    """Options of UPerNet, by default as published with TransNeXt."""

    channels: int = 512
    """Channels of the head."""
    pool_scales: Sequence[int] = (1, 2, 3, 6)
    """Sides of the maps that the last one is pooled to."""
    dropout: float = 0.1
    """Dropout rate of channels before the classifier of either head."""
    auxiliary_channels: int = 256
    """Channels of the auxiliary head."""
    auxiliary_weight: float = 0.4
    """Weight of the auxiliary loss; 0 for no auxiliary head."""


class UPerNet(PixelSegmenter):
    """UPerNet, with logits at stride 4. See ``PixelSegmenter``.

    In training, a small auxiliary head on the third map adds ``loss_auxiliary``, which is already weighted. It does not
    run in evaluation. One of the pooled maps has a single position, so the batch norm after it needs at
    least two images per device batch in training.

    Args:
        backbone, num_classes: see ``Segmenter``; all four maps of the backbone are used.
        decode_head: ``UperNetHead`` of transformers, or any module from a list of maps to logits.
        auxiliary_head: ``UperNetFCNHead`` of transformers, or None.
        auxiliary_weight: weight of the auxiliary loss.
    """

    class_layers = ("decode_head.classifier.", "auxiliary_head.classifier.")
    released_renames = (
        (r"^(decode_head|auxiliary_head)\.conv_seg\.", r"\1.classifier."),
        (r"^(decode_head|auxiliary_head)\.(.+)\.bn\.", r"\1.\2.batch_norm."),
    )

    def __init__(
        self, backbone: DenseBackbone, num_classes: int, decode_head: nn.Module,
        auxiliary_head: nn.Module | None = None, auxiliary_weight: float = 0.4,
    ) -> None:  # fmt: skip
        super().__init__(backbone, num_classes)
        self.decode_head, self.auxiliary_head = decode_head, auxiliary_head
        self.auxiliary_weight = auxiliary_weight

    def logits(self, maps: list[Tensor]) -> Tensor:
        return self.decode_head(maps)

    def losses(self, maps: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        losses = super().losses(maps, labels)
        if self.auxiliary_head is not None:
            auxiliary = pixel_cross_entropy(self.auxiliary_head(maps), labels)
            losses["loss_auxiliary"] = self.auxiliary_weight * auxiliary
        return losses

    def adapt_released(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Drop the file's auxiliary head if this model has none."""
        if self.auxiliary_head is None:
            state = {name: tensor for name, tensor in state.items() if not name.startswith("auxiliary_head.")}
        return super().adapt_released(state)


def build(backbone: DenseBackbone, num_classes: int, settings: Settings) -> UPerNet:
    """Build UPerNet on a ``backbone`` with the maps of all four stages.

    Raises:
        FovealError: transformers is not installed.
    """
    require_packages("UPerNet", "transformers")
    from transformers import UperNetConfig
    from transformers.models.upernet.modeling_upernet import UperNetFCNHead, UperNetHead

    config = UperNetConfig(
        hidden_size=settings.channels,
        pool_scales=tuple(settings.pool_scales),
        auxiliary_channels=settings.auxiliary_channels,
    )
    config.num_labels = num_classes
    decode_head = UperNetHead(config, backbone.channels)
    _prepare(decode_head, decode_head.fpn_bottleneck, settings.dropout)
    for block in decode_head.psp_modules.blocks:
        block.add_module("0", Pool(block.layers[0].output_size))
        block.layers[0] = block.get_submodule("0")
    if not settings.auxiliary_weight:
        return UPerNet(backbone, num_classes, decode_head)
    auxiliary_head = UperNetFCNHead(config, backbone.channels, in_index=AUXILIARY_STAGE)
    _prepare(auxiliary_head, auxiliary_head.get_submodule("convs.0"), settings.dropout)
    return UPerNet(backbone, num_classes, decode_head, auxiliary_head, settings.auxiliary_weight)


def _prepare(head: nn.Module, before_classifier: nn.Module, dropout: float) -> None:
    """Initialise a head and add dropout without changing the name of a parameter."""
    init_weights(head)
    before_classifier.activation = nn.Sequential(nn.ReLU(), nn.Dropout2d(dropout))
