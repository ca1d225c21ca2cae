"""RetinaNet: classes and boxes at every position of a feature pyramid, trained with the focal loss.

Lin, Goyal, Girshick, He, Dollár, "Focal Loss for Dense Object Detection", arXiv:1708.02002. Parts and settings are
those of the published detectors; docs/released_detectors.md says how agreement with the released ones was checked.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from foveal.tasks.dense.model import DenseBackbone, FeaturePyramid
from foveal.tasks.detection.anchors import BACKGROUND, IGNORED, AnchorGenerator, Matcher
from foveal.tasks.detection.boxes import BoxCoder, BoxSelection, SelectionSettings, full_precision
from foveal.tasks.detection.detector import Detector, ImageList, Images, Target
from foveal.types import Size

ALPHA, GAMMA = 0.25, 2.0  # of the focal loss, equation 5
PRIOR = 0.01  # initial probability of every class, section 4.1
BEFORE = 1000  # candidates per level, before suppression


class DenseHead(nn.Module):
    """Two towers of 3x3 convolutions, shared by all levels: one for classes, one for boxes."""

    def __init__(self, channels: int, convs: int, anchors: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.class_tower, self.box_tower = (
            nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(convs)) for _ in range(2)
        )
        self.act = nn.ReLU()
        self.classifier = nn.Conv2d(channels, anchors * num_classes, 3, padding=1)
        self.box = nn.Conv2d(channels, anchors * 4, 3, padding=1)
        for layer in (*self.class_tower, *self.box_tower, self.classifier, self.box):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        nn.init.constant_(self.classifier.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return logits (B, A, num_classes) and codes (B, A, 4) per map (B, channels, h, w); A = h * w * anchors."""
        logits = [_by_anchor(self.classifier(self._run_tower(self.class_tower, m)), self.num_classes) for m in maps]
        codes = [_by_anchor(self.box(self._run_tower(self.box_tower, m)), 4) for m in maps]
        return logits, codes

    def _run_tower(self, tower: nn.ModuleList, x: Tensor) -> Tensor:
        for conv in tower:
            x = self.act(conv(x))
        return x


def _by_anchor(x: Tensor, numbers: int) -> Tensor:
    """Reshape (B, anchors * numbers, h, w) to (B, h * w * anchors, numbers)."""
    count = x.shape[2] * x.shape[3] * (x.shape[1] // numbers)
    return full_precision(x.permute(0, 2, 3, 1).reshape(len(x), count, numbers))


class RetinaNet(Detector):
    """One-stage detector of boxes. See ``Detector``.

    Args:
        backbone, num_classes, images: see ``Detector``.
        pyramid: with as many levels as the anchors have.
        head: applied to each level.
        anchors: as many per cell as the head has.
        selection: of detections from scored boxes.
    """

    class_layers = ("head.classifier.",)
    released_renames = (
        (r"^neck\.lateral_convs\.(\d+)\.conv\.", r"pyramid.lateral.\1."),
        (r"^neck\.fpn_convs\.3\.conv\.", "pyramid.extra.0."),
        (r"^neck\.fpn_convs\.4\.conv\.", "pyramid.extra.1."),
        (r"^neck\.fpn_convs\.(\d+)\.conv\.", r"pyramid.output.\1."),
        (r"^bbox_head\.cls_convs\.(\d+)\.conv\.", r"head.class_tower.\1."),
        (r"^bbox_head\.reg_convs\.(\d+)\.conv\.", r"head.box_tower.\1."),
        (r"^bbox_head\.retina_cls\.", "head.classifier."),
        (r"^bbox_head\.retina_reg\.", "head.box."),
    )

    def __init__(
        self, backbone: DenseBackbone, num_classes: int, images: Images, pyramid: FeaturePyramid,
        head: DenseHead, anchors: AnchorGenerator, selection: BoxSelection,
    ) -> None:  # fmt: skip
        super().__init__(backbone, num_classes, images)
        self.pyramid, self.head, self.anchors = pyramid, head, anchors
        self.box_coder, self.matcher = BoxCoder(), Matcher(0.5, 0.4, minimum=0.0)
        self.selection = selection

    def losses(self, batch: ImageList, targets: list[Target]) -> dict[str, Tensor]:
        """Return ``loss_classifier`` and ``loss_box_reg``: sums over the batch, over the number of positive anchors.

        An image without positives counts one, as in MMDetection; torchvision divides per image and takes the mean.
        """
        maps = self.pyramid(self.backbone(batch.tensors))
        logits, codes = (torch.cat(of_levels, dim=1) for of_levels in self.head(maps))
        anchors = torch.cat(self.anchors(maps))
        inside = self.anchors.inside(maps, batch.image_sizes, self.images.size_divisible)
        sums = [self._losses_of(*of_image, anchors) for of_image in zip(logits, codes, inside, targets, strict=True)]
        classes, boxes, objects = zip(*sums, strict=True)
        divisor = sum(max(n, 1) for n in objects)
        return {"loss_classifier": sum(classes) / divisor, "loss_box_reg": sum(boxes) / divisor}

    def _losses_of(
        self, logits: Tensor, codes: Tensor, inside: Tensor, target: Target, anchors: Tensor
    ) -> tuple[Tensor, Tensor, int]:
        """Return an image's focal loss, the L1 loss of its box codes, and the number of anchors with an object."""
        numbers = inside.nonzero()[:, 0]
        match = self.matcher(target["boxes"], anchors[numbers])
        numbers, match = numbers[match != IGNORED], match[match != IGNORED]
        found = (match > BACKGROUND).nonzero()[:, 0]
        wanted = logits.new_zeros(len(numbers), logits.shape[1])
        wanted[found, target["labels"][match[found]]] = 1
        classes = sigmoid_focal_loss(logits[numbers], wanted, ALPHA, GAMMA, reduction="sum")
        chosen = numbers[found]
        boxes = self.box_coder.encode_single(target["boxes"][match[found]], anchors[chosen])
        return classes, (codes[chosen] - boxes).abs().sum(), len(found)

    def detections(self, batch: ImageList) -> list[dict[str, Tensor]]:
        maps = self.pyramid(self.backbone(batch.tensors))
        logits, codes = self.head(maps)
        anchors = self.anchors(maps)
        inside = self.anchors.inside(maps, batch.image_sizes, self.images.size_divisible)
        levels = list(zip(logits, codes, inside.split([len(a) for a in anchors], dim=1), strict=True))
        return [
            self._detect([(*(x[i] for x in level), a) for level, a in zip(levels, anchors, strict=True)], size)
            for i, size in enumerate(batch.image_sizes)
        ]

    def dense_pass(self, images: Tensor) -> None:
        """Run everything but the selection of boxes, which has no layers."""
        self.head(self.pyramid(self.backbone(images)))

    def scored_boxes(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the box of every anchor (1, A, 4) and its scores (1, A, num_classes) on a normalised, padded image
        (1, 3, H, W): what an exported file computes. Levels follow each other, and boxes reach beyond the image.
        """
        maps = self.pyramid(self.backbone(images))
        logits, codes = (torch.cat(of_levels, dim=1) for of_levels in self.head(maps))
        boxes = self.box_coder.decode_single(codes[0], torch.cat(self.anchors(maps)))
        return boxes[None], logits.sigmoid()

    def _detect(self, levels: list[tuple[Tensor, ...]], size: Size) -> dict[str, Tensor]:
        """Return an image's detections from its logits, codes, mask of anchors inside, and anchors of each level."""
        candidates = [self._candidates(*level) for level in levels]
        boxes, scores, labels = (torch.cat(parts) for parts in zip(*candidates, strict=True))
        return self.selection(boxes, scores, labels, size)

    def _candidates(
        self, logits: Tensor, codes: Tensor, inside: Tensor, anchors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes, scores and labels of a level's best scores, possibly several classes of one anchor."""
        scores = logits.sigmoid()
        anchor, label = ((scores > self.selection.score) & inside[:, None]).nonzero(as_tuple=True)
        best, order = scores[anchor, label].topk(min(BEFORE, len(anchor)))
        anchor = anchor[order]
        return self.box_coder.decode_single(codes[anchor], anchors[anchor]), best, label[order]


@dataclass(frozen=True)
class Settings(SelectionSettings):
    """Options of RetinaNet, by default as published; smaller ones suit small images."""

    channels: int = 256
    """Channels of the pyramid and of the head."""
    convs: int = 4
    """Convolutions of each of the head's two towers."""
    anchor_scale: float = 4
    """Side of the smallest square anchor, in strides; two more of each shape follow within an octave."""


def build(
    make_backbone: Callable[..., DenseBackbone], num_classes: int, images: Images, settings: Settings
) -> RetinaNet:
    """Build a RetinaNet; see ``find_builder``."""
    backbone, channels = make_backbone(stages=(1, 2, 3)), settings.channels
    strides = (*backbone.strides, 2 * backbone.strides[-1], 4 * backbone.strides[-1])
    anchors = AnchorGenerator(strides, [settings.anchor_scale * 2 ** (step / 3) for step in range(3)])
    head = DenseHead(channels, settings.convs, anchors.per_cell, num_classes)
    pyramid = FeaturePyramid(backbone.channels, channels, extra="conv")
    selection = BoxSelection(settings.score, settings.overlap, settings.most)
    return RetinaNet(backbone, num_classes, images, pyramid, head, anchors, selection)
