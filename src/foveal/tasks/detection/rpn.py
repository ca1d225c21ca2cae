"""The region proposal network of Mask R-CNN: which boxes may hold an object of any class.

Ren, He, Girshick, Sun, "Faster R-CNN", arXiv:1506.01497, section 3.1.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers

from foveal.tasks.detection.anchors import AnchorGenerator
from foveal.tasks.detection.detector import Target
from foveal.tasks.detection.images import ImageList
from foveal.tasks.detection.matching import BoxCoder, Matcher, Sampler
from foveal.tasks.detection.selection import full_precision

POSITIVE, NEGATIVE = 0.7, 0.3
OVERLAP = 0.7  # above which a proposal hides one with a lower score


class ProposalHead(nn.Module):
    """Of every anchor one logit of being an object, and one box."""

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness = nn.Conv2d(channels, anchors, 1)
        self.box = nn.Conv2d(channels, anchors * 4, 1)
        for layer in (self.conv, self.objectness, self.box):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Of every map (B, channels, h, w): (B, anchors, h, w) and (B, anchors * 4, h, w)."""
        hidden = [F.relu(self.conv(m)) for m in maps]
        return [self.objectness(h) for h in hidden], [self.box(h) for h in hidden]


class ProposalNetwork(RegionProposalNetwork):
    """torchvision's network with what MMDetection does otherwise: anchors, matching, loss, and the images' padding.

    Args:
        head: gives logits and boxes.
        anchors: as many a cell as the head has.
        divisor: what the sides of padded images are multiples of.
        samples: anchors of an image that its loss is computed from, half of them objects' where there are so many.
        candidates: of a level, in training and in evaluation, from which proposals are chosen: on a CPU much of a small
            network's time goes into comparing them with each other.
        proposals: how many are kept of an image.
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
        """Proposals (N, 4) of every image, best first and without gradients; with targets the losses as well."""
        objectness, deltas = self.head(maps)
        of_levels = [m[0].numel() for m in objectness]
        logits, codes = map(full_precision, concat_box_prediction_layers(objectness, deltas))
        anchors = torch.cat(self.anchor_generator(maps))
        images = len(batch.image_sizes)
        boxes = self.box_coder.decode_single(codes.detach(), anchors.repeat(images, 1)).view(images, -1, 4)
        logits, codes = logits.view(images, -1), codes.view(images, -1, 4)
        inside = self.anchor_generator.inside(maps, batch.image_sizes, self.divisor)
        # Others come last, and have no area: those without are left out.
        boxes, seen = boxes.masked_fill(~inside[..., None], 0), logits.masked_fill(~inside, -math.inf)
        proposals, _ = self.filter_proposals(boxes, seen, batch.image_sizes, of_levels)
        return proposals, self.losses(logits, codes, anchors, inside, targets) if targets is not None else {}

    def losses(
        self, logits: Tensor, codes: Tensor, anchors: Tensor, inside: Tensor, targets: list[Target]
    ) -> dict[str, Tensor]:
        """Cross entropy of the drawn anchors, and the L1 distance of the codes of those with an object.

        Args:
            logits: (B, A).
            codes: (B, A, 4).
            anchors: (A, 4).
            inside: (B, A), which anchors take part.
            targets: one an image.

        Returns:
            ``loss_objectness`` and ``loss_rpn_box_reg``, sums over the batch, divided by how many anchors were drawn;
            an image without one of the two kinds counts one of it, as in MMDetection.
        """
        objectness, boxes, drawn = logits.new_zeros(()), codes.new_zeros(()), 0
        for of_image, code, taking_part, target in zip(logits, codes, inside, targets, strict=True):
            numbers = taking_part.nonzero()[:, 0]
            match = self.matcher(target["boxes"], anchors[numbers])
            positive, negative = self.sampler(match)
            wanted = self.box_coder.encode_single(target["boxes"][match[positive]], anchors[numbers[positive]])
            positive_logits, negative_logits = of_image[numbers[positive]], of_image[numbers[negative]]
            objectness = objectness + F.softplus(-positive_logits).sum() + F.softplus(negative_logits).sum()
            boxes = boxes + (code[numbers[positive]] - wanted).abs().sum()
            drawn += max(len(positive), 1) + max(len(negative), 1)
        return {"loss_objectness": objectness / drawn, "loss_rpn_box_reg": boxes / drawn}
