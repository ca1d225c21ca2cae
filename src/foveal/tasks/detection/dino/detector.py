"""DINO itself: from images to losses or detections."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchvision.ops import clip_boxes_to_image

from foveal.tasks.dense.backbone import DenseBackbone
from foveal.tasks.dense.detr import mean_count
from foveal.tasks.dense.released import split_attention
from foveal.tasks.detection.detector import Detector, Target
from foveal.tasks.detection.dino import Settings
from foveal.tasks.detection.dino.decoder import Decoder
from foveal.tasks.detection.dino.denoising import Denoising, NoisedQueries, restored, seen_by
from foveal.tasks.detection.dino.encoder import Encoder, recompute
from foveal.tasks.detection.dino.heads import Heads
from foveal.tasks.detection.dino.levels import Flatten, Levels
from foveal.tasks.detection.dino.losses import set_losses
from foveal.tasks.detection.dino.matching import match
from foveal.tasks.detection.dino.neck import Neck
from foveal.tasks.detection.dino.objects import Objects, to_corners
from foveal.tasks.detection.dino.released import RENAMES
from foveal.tasks.detection.dino.selection import QuerySelection, Selection
from foveal.tasks.detection.images import ImageList, Images

SMALLEST = 32


class Dino(Detector):
    """DINO (arXiv:2203.03605): a transformer that finds objects as a set, without anchors and without suppression.

    Its losses are ``loss_class``, ``loss_l1`` and ``loss_giou`` of the last layer, and the same with ``_auxiliary``
    (the other layers' sum), ``_encoder`` (the proposals) and ``_denoising`` (all layers' sum).
    """

    class_layers = ("heads.classes.", "denoising.label_embedding.")
    released_renames = RENAMES

    def __init__(self, backbone: DenseBackbone, num_classes: int, images: Images, settings: Settings) -> None:
        super().__init__(backbone, num_classes, images)
        # Padded to the batch's largest image and no further, as published; the maps are of any size.
        images.size_divisible = 1
        self.settings, dim = settings, settings.dim
        self.neck = Neck(backbone.channels, dim)
        self.flatten = Flatten(settings.num_levels, dim)
        self.encoder = Encoder(settings)
        self.selection = QuerySelection(settings.queries, dim)
        self.decoder = Decoder(settings)
        self.heads = Heads(num_classes, dim, settings.decoder_layers)
        self.denoising = Denoising(num_classes, dim, settings.denoising_queries)

    def losses(self, batch: ImageList, targets: list[Target]) -> dict[str, Tensor]:
        levels, memory, selection = self._encode(batch)
        objects = Objects.of(targets, batch.image_sizes)
        noised = self.denoising(objects)
        queries, starts = self._decode(levels, memory, selection, noised)
        logits, boxes = self.heads(queries, starts)
        count = noised.boxes.shape[1]
        return {
            **self._set_losses(selection, logits[:, :, count:], boxes[:, :, count:], objects),
            **self._denoising_losses(logits[:, :, :count], boxes[:, :, :count], objects, noised.groups),
        }

    def detections(self, batch: ImageList) -> list[dict[str, Tensor]]:
        levels, memory, selection = self._encode(batch)
        queries, starts = self._decode(levels, memory, selection, None)
        last = len(queries) - 1
        logits, boxes = self.heads(queries[last:], starts[last:], first=last)
        return best(logits[0], boxes[0], batch.image_sizes, self.settings.max_detections)

    def summary(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """The last layer's losses, and what the other parts add up to."""
        parts: dict[str, Tensor] = {}
        for name, loss in losses.items():
            kind, _, part = name.removeprefix("loss_").partition("_")
            parts[part or kind] = parts.get(part or kind, 0) + loss.detach()
        return parts

    def dense_pass(self, images: Tensor) -> None:
        """The encoder on all tokens, the decoder on its queries, all heads."""
        batch = ImageList(images, [(images.shape[-2], images.shape[-1])] * len(images))
        self.heads(*self._decode(*self._encode(batch), None))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        super().set_grad_checkpointing(enable)
        recompute(self.encoder.layers, enable)
        recompute(self.decoder.layers, enable)

    def adapt_released(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A released state, by our names, with what a name alone cannot say; see ``split_attention``."""
        return split_attention(state, r".*\.self_attn")

    def _encode(self, batch: ImageList) -> tuple[Levels, Tensor, Selection]:
        height, width = batch.tensors.shape[-2:]
        # Networks of stride 32 need so much; what is added is padding like any other.
        images = pad(batch.tensors, (0, max(SMALLEST - width, 0), 0, max(SMALLEST - height, 0)))
        maps = self.neck(self.backbone(images))
        levels = self.flatten(maps, batch.image_sizes, (images.shape[-2], images.shape[-1]))
        memory = self.encoder(levels)
        return levels, memory, self.selection(memory, levels, self.heads.classes[-1], self.heads.boxes[-1])

    def _decode(
        self, levels: Levels, memory: Tensor, selection: Selection, noised: NoisedQueries | None
    ) -> tuple[Tensor, Tensor]:
        content, boxes, seen = selection.content, selection.boxes.detach(), None
        if noised is not None:
            per_group = noised.boxes.shape[1] // (2 * noised.groups)
            seen = seen_by(per_group, noised.groups, boxes.shape[1], boxes.device)
            content, boxes = torch.cat((noised.content, content), 1), torch.cat((noised.boxes, boxes), 1)
        return self.decoder(content, boxes, memory, levels, self.heads.boxes, seen)

    def _set_losses(self, selection: Selection, logits: Tensor, boxes: Tensor, objects: Objects) -> dict[str, Tensor]:
        """Of the encoder and of all layers, each matched by itself."""
        logits, boxes = torch.cat((selection.logits[None], logits)), torch.cat((selection.boxes[None], boxes))
        count = mean_count(sum(objects.counts), logits.device)
        losses = set_losses(logits, boxes, match(logits, boxes, objects), objects, count)
        parts = {"_encoder": slice(1), "_auxiliary": slice(1, -1), "": slice(-1, None)}
        return {
            f"loss_{kind}{part}": loss[which].sum() for part, which in parts.items() for kind, loss in losses.items()
        }

    def _denoising_losses(self, logits: Tensor, boxes: Tensor, objects: Objects, groups: int) -> dict[str, Tensor]:
        pairs = restored(objects, groups, len(logits))
        count = mean_count(groups * sum(objects.counts), logits.device)
        losses = set_losses(logits, boxes, pairs, objects, count)
        return {f"loss_{kind}_denoising": loss.sum() for kind, loss in losses.items()}


def best(logits: Tensor, boxes: Tensor, image_sizes: Sequence[tuple[int, int]], most: int) -> list[dict[str, Tensor]]:
    """The highest scores over queries and classes together: a query may be detected as several classes.

    Args:
        logits: (B, Q, classes).
        boxes: (B, Q, 4) as (cx, cy, w, h) relative to the image.
        image_sizes: (height, width) of each image in pixels.
        most: how many are kept of an image.
    """
    num_classes = logits.shape[-1]
    scores, places = logits.float().sigmoid().flatten(1).topk(min(most, logits[0].numel()), dim=1)
    found = []
    for score, place, box, (height, width) in zip(scores, places, boxes.float(), image_sizes, strict=True):
        pixels = to_corners(box)[place // num_classes] * box.new_tensor([width, height, width, height])
        pixels = clip_boxes_to_image(pixels, (height, width))
        found.append({"boxes": pixels, "labels": place % num_classes, "scores": score})
    return found
