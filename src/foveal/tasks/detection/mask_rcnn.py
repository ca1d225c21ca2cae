"""Mask R-CNN on a feature pyramid, with the parts and settings of the published detectors.

He, Gkioxari, Dollár, Girshick, "Mask R-CNN", arXiv:1703.06870. docs/released_detectors.md says how agreement with the
released detectors was checked.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from foveal.tasks.dense.model import DenseBackbone, FeaturePyramid
from foveal.tasks.detection.anchors import AnchorGenerator
from foveal.tasks.detection.boxes import BoxSelection, SelectionSettings
from foveal.tasks.detection.detector import Detector, ImageList, Images, Target
from foveal.tasks.detection.roi_heads import BOX_SIZE, MASK_SIZE, RoIHeads
from foveal.tasks.detection.rpn import ProposalHead, ProposalNetwork

COUNTED_BOXES, COUNTED_MASKS = 1000, 100  # as in published multiply-adds of two-stage detectors


class MaskRCNN(Detector):
    """Two-stage detector of boxes and masks: a proposal network and RoI heads. See ``Detector``."""

    needs_masks = True
    class_layers = ("roi_heads.box_head.classifier.", "roi_heads.box_head.box.", "roi_heads.mask_head.logits.")
    released_renames = (
        (r"^neck\.lateral_convs\.(\d+)\.conv\.", r"pyramid.lateral.\1."),
        (r"^neck\.fpn_convs\.(\d+)\.conv\.", r"pyramid.output.\1."),
        (r"^rpn_head\.rpn_conv\.", "rpn.head.conv."),
        (r"^rpn_head\.rpn_cls\.", "rpn.head.objectness."),
        (r"^rpn_head\.rpn_reg\.", "rpn.head.box."),
        (r"^roi_head\.bbox_head\.shared_fcs\.0\.", "roi_heads.box_head.fc1."),
        (r"^roi_head\.bbox_head\.shared_fcs\.1\.", "roi_heads.box_head.fc2."),
        (r"^roi_head\.bbox_head\.fc_cls\.", "roi_heads.box_head.classifier."),
        (r"^roi_head\.bbox_head\.fc_reg\.", "roi_heads.box_head.box."),
        (r"^roi_head\.mask_head\.convs\.(\d+)\.conv\.", r"roi_heads.mask_head.convs.\1."),
        (r"^roi_head\.mask_head\.upsample\.", "roi_heads.mask_head.upsample."),
        (r"^roi_head\.mask_head\.conv_logits\.", "roi_heads.mask_head.logits."),
    )

    def __init__(
        self, backbone: DenseBackbone, num_classes: int, images: Images,
        pyramid: FeaturePyramid, rpn: ProposalNetwork, roi_heads: RoIHeads,
    ) -> None:  # fmt: skip
        super().__init__(backbone, num_classes, images)
        self.pyramid, self.rpn, self.roi_heads = pyramid, rpn, roi_heads

    def losses(self, batch: ImageList, targets: list[Target]) -> dict[str, Tensor]:
        """Return ``loss_objectness``, ``loss_rpn_box_reg``, ``loss_classifier``, ``loss_box_reg`` and ``loss_mask``."""
        maps = self.pyramid(self.backbone(batch.tensors))
        proposals, losses = self.rpn(batch, maps, targets)
        return {**losses, **self.roi_heads.losses(maps, proposals, targets)}

    def detections(self, batch: ImageList) -> list[dict[str, Tensor]]:
        maps = self.pyramid(self.backbone(batch.tensors))
        proposals, _ = self.rpn(batch, maps)
        return self.roi_heads.detections(maps, proposals, batch.image_sizes)

    def dense_pass(self, images: Tensor) -> None:
        """Run all layers, the heads on as many boxes and masks as in published multiply-adds."""
        maps = self.pyramid(self.backbone(images))
        self.rpn.head(maps)
        channels = self.roi_heads.channels
        self.roi_heads.box_head(images.new_zeros(COUNTED_BOXES, channels, BOX_SIZE, BOX_SIZE))
        self.roi_heads.mask_head(images.new_zeros(COUNTED_MASKS, channels, MASK_SIZE, MASK_SIZE))


@dataclass(frozen=True)
class Settings(SelectionSettings):
    """Options of Mask R-CNN, by default as published; smaller ones suit small images."""

    channels: int = 256
    """Channels of the pyramid and of the convolutions after it."""
    hidden: int = 1024
    """Width of the box head's two layers."""
    mask_convs: int = 4
    """3x3 convolutions of the mask head."""
    anchor_scale: float = 8
    """Side of the square anchor, in strides."""
    finest: float = 56
    """Boxes with a side of less than twice this many pixels are taken from the finest map."""
    anchor_samples: int = 256
    """Anchors per image that the losses of the first stage are computed from."""
    box_samples: int = 512
    """Boxes per image that the losses of the second stage are computed from."""
    candidates: tuple[int, int] = (2000, 1000)
    """Candidates per level in training and in evaluation; see ``ProposalNetwork``."""
    proposals: int = 1000
    """Proposals per image."""


def build(
    make_backbone: Callable[..., DenseBackbone], num_classes: int, images: Images, settings: Settings
) -> MaskRCNN:
    """Build a Mask R-CNN; see ``find_builder``."""
    channels = settings.channels
    backbone = make_backbone(stages=(0, 1, 2, 3))
    strides = tuple(backbone.strides)
    anchors = AnchorGenerator((*strides, 2 * strides[-1]), (settings.anchor_scale,))
    head = ProposalHead(channels, anchors.per_cell)
    divisor, samples = images.size_divisible, settings.anchor_samples
    rpn = ProposalNetwork(head, anchors, divisor, samples, settings.candidates, settings.proposals)
    roi_heads = RoIHeads(
        channels,
        num_classes,
        strides,
        settings.finest,
        settings.hidden,
        settings.mask_convs,
        settings.box_samples,
        BoxSelection(settings.score, settings.overlap, settings.most),
    )
    return MaskRCNN(backbone, num_classes, images, FeaturePyramid(backbone.channels, channels), rpn, roi_heads)
