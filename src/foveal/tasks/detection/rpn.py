"""The region proposal network of Mask R-CNN: boxes that may contain an object of any class.

Ren, He, Girshick, Sun, "Faster R-CNN", arXiv:1506.01497, section 3.1.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers

from foveal.tasks.detection.anchors import AnchorGenerator, Matcher, Sampler
from foveal.tasks.detection.boxes import BoxCoder, full_precision
from foveal.tasks.detection.detector import ImageList, Target

POSITIVE, NEGATIVE = 0.7, 0.3
OVERLAP = 0.7  # above which a proposal suppresses one with a lower score


class ProposalHead(nn.Module):
    """Predict an objectness logit and a box for every anchor."""

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness = nn.Conv2d(channels, anchors, 1)
        self.box = nn.Conv2d(channels, anchors * 4, 1)
        for layer in (self.conv, self.objectness, self.box):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return logits (B, anchors, h, w) and boxes (B, anchors * 4, h, w) of every map (B, channels, h, w)."""
        hidden = [F.relu(self.conv(m)) for m in maps]
        return [self.objectness(h) for h in hidden], [self.box(h) for h in hidden]


class ProposalNetwork(RegionProposalNetwork):
    """torchvision's region proposal network, with MMDetection's anchors, matching, loss and treatment of padding.

    Args:
        head: predicts logits and boxes.
        anchors: as many per cell as the head has.
        divisor: padded sides are multiples of it.
        samples: anchors per image that its loss is computed from; half of them have an object, if there are enough.
        candidates: boxes per level, in training and in evaluation, that proposals are selected from. On a CPU, a
            small network spends much of its time comparing them with each other.
        proposals: kept per image.
    """

    def __init__(
        self,
        head: nn.Module,
        anchors: AnchorGenerator,
        divisor: int,
        samples: int,
        candidates: tuple[int, int],
        proposals: int,
    ) -> None:
        before = dict(training=candidates[0], testing=candidates[1])
        after = dict(training=proposals, testing=proposals)
        super().__init__(anchors, head, POSITIVE, NEGATIVE, samples, 0.5, before, after, OVERLAP)
        self.divisor = divisor
        self.box_coder = BoxCoder()
        self.matcher = Matcher(POSITIVE, NEGATIVE, minimum=0.3)
        self.sampler = Sampler(samples, 0.5)

    def forward(
        self, batch: ImageList, maps: list[Tensor], targets: list[Target] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return each image's proposals (N, 4), best first and without gradients; with targets, also the losses."""
        objectness, deltas = self.head(maps)
        of_levels = [m[0].numel() for m in objectness]
        logits, codes = map(full_precision, concat_box_prediction_layers(objectness, deltas))
        anchors = torch.cat(self.anchor_generator(maps))
        images = len(batch.image_sizes)
        boxes = self.box_coder.decode_single(codes.detach(), anchors.repeat(images, 1)).view(images, -1, 4)
        logits, codes = logits.view(images, -1), codes.view(images, -1, 4)
        inside = self.anchor_generator.inside(maps, batch.image_sizes, self.divisor)
        # Boxes outside get the lowest score and no area; those without area are dropped.
        boxes, scores = boxes.masked_fill(~inside[..., None], 0), logits.masked_fill(~inside, -math.inf)
        proposals, _ = self.filter_proposals(boxes, scores, batch.image_sizes, of_levels)
        return proposals, self.losses(logits, codes, anchors, inside, targets) if targets is not None else {}

    def losses(
        self, logits: Tensor, codes: Tensor, anchors: Tensor, inside: Tensor, targets: list[Target]
    ) -> dict[str, Tensor]:
        """Return the cross entropy of the sampled anchors, and the L1 loss of the codes of those with an object.

        Args:
            logits: (B, A).
            codes: (B, A, 4).
            anchors: (A, 4).
            inside: (B, A) bool, the anchors in each image.
            targets: one per image.

        Returns:
            ``loss_objectness`` and ``loss_rpn_box_reg``: sums over the batch, divided by the number of sampled
            anchors; an image without positives or without negatives counts one of them, as in MMDetection.
        """
        objectness, boxes, sampled = logits.new_zeros(()), codes.new_zeros(()), 0
        for logit, code, of_image, target in zip(logits, codes, inside, targets, strict=True):
            numbers = of_image.nonzero()[:, 0]
            match = self.matcher(target["boxes"], anchors[numbers])
            positive, negative = self.sampler(match)
            wanted = self.box_coder.encode_single(target["boxes"][match[positive]], anchors[numbers[positive]])
            positive_logits, negative_logits = logit[numbers[positive]], logit[numbers[negative]]
            objectness = objectness + F.softplus(-positive_logits).sum() + F.softplus(negative_logits).sum()
            boxes = boxes + (code[numbers[positive]] - wanted).abs().sum()
            sampled += max(len(positive), 1) + max(len(negative), 1)
        return {"loss_objectness": objectness / sampled, "loss_rpn_box_reg": boxes / sampled}
