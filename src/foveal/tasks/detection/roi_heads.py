"""The second stage of Mask R-CNN: class, box and mask of every proposal.

He, Gkioxari, Dollár, Girshick, "Mask R-CNN", arXiv:1703.06870. Not configured from torchvision's ``RoIHeads``, which
hard-codes the background as first class with a box of its own, smooth L1 and soft mask targets.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.tasks.detection.anchors import Matcher, Sampler
from foveal.tasks.detection.boxes import BoxCoder, BoxSelection, full_precision
from foveal.tasks.detection.detector import Target
from foveal.tasks.detection.roi_align import RoIAlign, crop_masks
from foveal.types import Size

BOX_SIZE, MASK_SIZE = 7, 14


class BoxHead(nn.Module):
    """Predict logits (N, num_classes + 1), the background last, and box codes (N, num_classes, 4) from features."""

    def __init__(self, channels: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels * BOX_SIZE**2, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.act = nn.ReLU()
        self.classifier = nn.Linear(hidden, num_classes + 1)
        self.box = nn.Linear(hidden, num_classes * 4)
        for layer in (self.fc1, self.fc2):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.normal_(self.box.weight, std=0.001)
        for layer in (self.fc1, self.fc2, self.classifier, self.box):
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and codes of features (N, channels, 7, 7)."""
        hidden = self.act(self.fc2(self.act(self.fc1(features.flatten(1)))))
        return full_precision(self.classifier(hidden)), full_precision(self.box(hidden)).unflatten(1, (-1, 4))


class MaskHead(nn.Module):
    """Predict mask logits at twice the resolution of the features: convolutions, then a transposed convolution."""

    def __init__(self, channels: int, convs: int, num_classes: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(convs))
        self.upsample = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.act = nn.ReLU()
        self.logits = nn.Conv2d(channels, num_classes, 1)
        for layer in (*self.convs, self.upsample, self.logits):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes, 28, 28) of features (N, channels, 14, 14)."""
        for conv in self.convs:
            x = self.act(conv(x))
        return full_precision(self.logits(self.act(self.upsample(x))))


class Samples(NamedTuple):
    """Boxes of an image that the second stage learns from, the P boxes with an object first."""

    boxes: Tensor  # (N, 4)
    labels: Tensor  # (N,), num_classes for the background
    objects: Tensor  # (P,), index of each object
    codes: Tensor  # (P, 4), targets of the box head


class RoIHeads(nn.Module):
    """Box head and mask head with their losses.

    Args:
        channels: of the pyramid.
        num_classes: object classes, without the background.
        strides: of the maps that features are taken from.
        finest: see ``RoIAlign``.
        hidden: width of the box head.
        mask_convs: 3x3 convolutions of the mask head.
        samples: boxes per image that the losses are computed from, up to a quarter of them with an object.
        selection: of detections from scored boxes.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        strides: Sequence[int],
        finest: float,
        hidden: int,
        mask_convs: int,
        samples: int,
        selection: BoxSelection,
    ) -> None:
        super().__init__()
        self.num_classes, self.channels = num_classes, channels
        self.box_align, self.mask_align = (RoIAlign(size, strides, finest) for size in (BOX_SIZE, MASK_SIZE))
        self.box_head = BoxHead(channels, hidden, num_classes)
        self.mask_head = MaskHead(channels, mask_convs, num_classes)
        self.box_coder = BoxCoder((0.1, 0.1, 0.2, 0.2))
        self.matcher, self.sampler = Matcher(0.5, 0.5, minimum=0.5), Sampler(samples, 0.25)
        self.selection = selection

    def sample(self, proposals: Tensor, target: Target) -> Samples:
        """Sample the boxes that an image's losses are computed from; its objects' boxes are added to the proposals."""
        boxes, own = target["boxes"], torch.arange(len(target["boxes"]), device=proposals.device)
        match = torch.cat([own, self.matcher(boxes, proposals)])
        candidates = torch.cat([boxes, proposals])
        positive, negative = self.sampler(match)
        objects = match[positive]
        background = objects.new_full((len(negative),), self.num_classes)
        return Samples(
            candidates[torch.cat([positive, negative])],
            torch.cat([target["labels"][objects], background]),
            objects,
            self.box_coder.encode_single(boxes[objects], candidates[positive]),
        )

    def losses(self, maps: list[Tensor], proposals: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Return ``loss_classifier`` and ``loss_box_reg``, averaged over all samples, and the mean ``loss_mask``."""
        samples = [self.sample(of_image, target) for of_image, target in zip(proposals, targets, strict=True)]
        with_object = [s.boxes[: len(s.objects)] for s in samples]
        logits, codes = self.box_head(self.box_align(maps, [s.boxes for s in samples]))
        mask_logits = self.mask_head(self.mask_align(maps, with_object))
        labels = torch.cat([s.labels for s in samples])
        wanted = [
            crop_masks(target["masks"], s.objects, boxes, mask_logits.shape[-1])
            for target, s, boxes in zip(targets, samples, with_object, strict=True)
        ]
        found = labels < self.num_classes
        distance = _of_class(codes[found], labels[found]) - torch.cat([s.codes for s in samples])
        mask_logits = _of_class(mask_logits, labels[found])
        masks = F.binary_cross_entropy_with_logits(mask_logits, torch.cat(wanted), reduction="sum")
        count = max(len(labels), 1)
        return {
            "loss_classifier": F.cross_entropy(logits, labels, reduction="sum") / count,
            "loss_box_reg": distance.abs().sum() / count,
            "loss_mask": masks / max(mask_logits.numel(), 1),
        }

    def detections(self, maps: list[Tensor], proposals: list[Tensor], sizes: list[Size]) -> list[dict[str, Tensor]]:
        """Return ``boxes``, ``scores``, ``labels`` and ``masks`` (N, 1, 28, 28) of every image, best first."""
        logits, codes = self.box_head(self.box_align(maps, proposals))
        boxes = self.box_coder.decode_single(codes.flatten(1), torch.cat(proposals)).unflatten(1, (-1, 4))
        counts = [len(of_image) for of_image in proposals]
        scores = logits.softmax(-1)[:, :-1]
        results = [
            self._select(*of_image) for of_image in zip(boxes.split(counts), scores.split(counts), sizes, strict=True)
        ]
        masks = self.mask_head(self.mask_align(maps, [r["boxes"] for r in results])).sigmoid()
        masks = _of_class(masks, torch.cat([r["labels"] for r in results]))[:, None]
        for result, of_image in zip(results, masks.split([len(r["boxes"]) for r in results]), strict=True):
            result["masks"] = of_image
        return results

    def _select(self, boxes: Tensor, scores: Tensor, size: Size) -> dict[str, Tensor]:
        proposal, label = (scores > self.selection.score).nonzero(as_tuple=True)
        return self.selection(boxes[proposal, label], scores[proposal, label], label, size)


def _of_class(x: Tensor, labels: Tensor) -> Tensor:
    """Return the entries of (N, classes, ...) for each sample's own class: (N, ...)."""
    return x[torch.arange(len(labels), device=x.device), labels]
