"""UPerNet: a pooling pyramid on the last map, and a feature pyramid that joins all four.

Xiao, Liu, Zhou, Jiang, Sun, "Unified Perceptual Parsing for Scene Understanding", arXiv:1807.10221. The heads are
transformers', with what they lack of the published segmenters: dropout and first weights. What agrees with the
released ones is in docs/released_segmenters.md.
"""

from collections.abc import Sequence
from importlib.util import find_spec

from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.tasks.dense.backbone import DenseBackbone
from foveal.tasks.segmentation.segmenter import PixelSegmenter, init_weights, pixel_cross_entropy

AUXILIARY_STAGE = 2  # the third, of stride 16


class UPerNet(PixelSegmenter):
    """Classes of pixels from all maps, joined at stride 4. See ``PixelSegmenter``.

    In training a second, small head on the third map has a loss of its own, ``loss_auxiliary``, which is already
    weighted. In evaluation it does not run. One of the pooled maps has a single position, so the batch norm behind it
    needs at least two images a device batch to learn.

    Args:
        backbone, num_classes: see ``Segmenter``; all four maps of the backbone are used.
        decode_head: transformers' ``UperNetHead``, or what takes a list of maps and gives logits.
        auxiliary_head: transformers' ``UperNetFCNHead``; None for none.
        auxiliary_weight: of its loss.
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
        """Without an auxiliary head, a file's is left out."""
        if self.auxiliary_head is None:
            state = {name: tensor for name, tensor in state.items() if not name.startswith("auxiliary_head.")}
        return super().adapt_released(state)


def build(
    backbone: DenseBackbone,
    num_classes: int,
    *,
    channels: int = 512,
    pool_scales: Sequence[int] = (1, 2, 3, 6),
    dropout: float = 0.1,
    auxiliary_channels: int = 256,
    auxiliary_weight: float = 0.4,
) -> UPerNet:
    """A UPerNet as published with TransNeXt, and smaller ones.

    Args:
        backbone: gives the maps of all four stages.
        num_classes: see ``Segmenter``.
        channels: of the head.
        pool_scales: sides of the maps that the last one is pooled to.
        dropout: share of channels that are dropped before either head's classifier, in training.
        auxiliary_channels: of the auxiliary head.
        auxiliary_weight: of its loss; 0 for no such head.

    Raises:
        FovealError: transformers is not installed.
    """
    if find_spec("transformers") is None:
        raise FovealError("UPerNet needs transformers: install it with `pip install 'foveal[dense]'`.")
    from transformers import UperNetConfig
    from transformers.models.upernet.modeling_upernet import UperNetFCNHead, UperNetHead

    config = UperNetConfig(hidden_size=channels, pool_scales=tuple(pool_scales), auxiliary_channels=auxiliary_channels)
    config.num_labels = num_classes
    decode_head = UperNetHead(config, backbone.channels)
    _prepare(decode_head, decode_head.fpn_bottleneck, dropout)
    if not auxiliary_weight:
        return UPerNet(backbone, num_classes, decode_head)
    auxiliary_head = UperNetFCNHead(config, backbone.channels, in_index=AUXILIARY_STAGE)
    _prepare(auxiliary_head, auxiliary_head.get_submodule("convs.0"), dropout)
    return UPerNet(backbone, num_classes, decode_head, auxiliary_head, auxiliary_weight)


def _prepare(head: nn.Module, before_classifier: nn.Module, dropout: float) -> None:
    """Draw a head's weights, and put dropout where it has none without changing a name."""
    init_weights(head)
    before_classifier.activation = nn.Sequential(nn.ReLU(), nn.Dropout2d(dropout))
