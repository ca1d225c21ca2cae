"""DINO: from images to losses or detections."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchvision.ops import clip_boxes_to_image

from foveal.tasks.dense.detr import mean_count
from foveal.tasks.dense.model import DenseBackbone
from foveal.tasks.dense.released import split_attention
from foveal.tasks.detection.detector import Detector, ImageList, Images, Target
from foveal.tasks.detection.dino import Settings
from foveal.tasks.detection.dino.denoising import Denoising, NoisedQueries, attention_mask, denoising_pairs
from foveal.tasks.detection.dino.levels import Flatten, Levels, Neck
from foveal.tasks.detection.dino.matching import Objects, match, set_losses, to_corners
from foveal.tasks.detection.dino.queries import Heads, QuerySelection, SelectedQueries
from foveal.tasks.detection.dino.transformer import Decoder, Encoder, set_checkpointing
from foveal.types import Size

SMALLEST = 32  # pixels: the shortest side that backbones of stride 32 take

# From MMDetection 3's names in the released files to ours, all but the backbone's: (pattern, replacement). At most one
# pattern matches a name, before and after.
RENAMES: tuple[tuple[str, str], ...] = (
    (r"^neck\.convs\.(\d+)\.gn\.", r"neck.convs.\1.norm."),
    (r"^neck\.extra_convs\.0\.conv\.", "neck.extra.conv."),
    (r"^neck\.extra_convs\.0\.gn\.", "neck.extra.norm."),
    (r"^level_embed$", "flatten.level_embedding"),
    (r"^memory_trans_fc\.", "selection.project."),
    (r"^memory_trans_norm\.", "selection.norm."),
    (r"^query_embedding\.", "selection.content."),
    (r"^dn_query_generator\.", "denoising."),
    (r"^bbox_head\.cls_branches\.", "heads.classes."),
    (r"^bbox_head\.reg_branches\.(\d+)\.0\.", r"heads.boxes.\1.layers.0."),
    (r"^bbox_head\.reg_branches\.(\d+)\.2\.", r"heads.boxes.\1.layers.1."),
    (r"^bbox_head\.reg_branches\.(\d+)\.4\.", r"heads.boxes.\1.layers.2."),
    (r"^decoder\.ref_point_head\.", "decoder.place."),
    (r"^((?:en|de)coder\.layers\.\d+)\.ffn\.layers\.0\.0\.", r"\1.mlp.fc1."),
    (r"^((?:en|de)coder\.layers\.\d+)\.ffn\.layers\.1\.", r"\1.mlp.fc2."),
    (r"^((?:en|de)coder\.layers\.\d+)\.norms\.0\.", r"\1.self_attn_layer_norm."),
    (r"^(encoder\.layers\.\d+)\.norms\.1\.", r"\1.final_layer_norm."),
    (r"^(decoder\.layers\.\d+)\.norms\.1\.", r"\1.encoder_attn_layer_norm."),
    (r"^(decoder\.layers\.\d+)\.norms\.2\.", r"\1.final_layer_norm."),
    (r"^(decoder\.layers\.\d+)\.cross_attn\.", r"\1.encoder_attn."),
    (r"^(decoder\.layers\.\d+)\.self_attn\.attn\.out_proj\.", r"\1.self_attn.o_proj."),
    (r"^(decoder\.layers\.\d+)\.self_attn\.attn\.in_proj_", r"\1.self_attn.in_proj_"),
)


class Dino(Detector):
    """DINO (arXiv:2203.03605): a transformer that detects objects as a set, without anchors or suppression.

    Its losses are ``loss_class``, ``loss_l1`` and ``loss_giou`` of the last layer, and the same with the suffixes
    ``_auxiliary`` (sum over the other layers), ``_encoder`` (the proposals) and ``_denoising`` (sum over all layers).
    """

    class_layers = ("heads.classes.", "denoising.label_embedding.")
    released_renames = RENAMES

    def __init__(self, backbone: DenseBackbone, num_classes: int, images: Images, settings: Settings) -> None:
        super().__init__(backbone, num_classes, images)
        # Images are padded to the largest of the batch and no further, as published.
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
        objects = Objects.from_targets(targets, batch.image_sizes)
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
        return top_detections(logits[0], boxes[0], batch.image_sizes, self.settings.max_detections)

    def summary(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the last layer's losses, and the sum of each other part."""
        parts: dict[str, Tensor] = {}
        for name, loss in losses.items():
            kind, _, part = name.removeprefix("loss_").partition("_")
            parts[part or kind] = parts.get(part or kind, 0) + loss.detach()
        return parts

    def dense_pass(self, images: Tensor) -> None:
        """Run the encoder on all tokens, the decoder on its queries, and all heads."""
        batch = ImageList(images, [(images.shape[-2], images.shape[-1])] * len(images))
        self.heads(*self._decode(*self._encode(batch), None))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        super().set_grad_checkpointing(enable)
        set_checkpointing(self.encoder.layers, enable)
        set_checkpointing(self.decoder.layers, enable)

    def adapt_released(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Split the packed attention projections of a renamed released state; see ``split_attention``."""
        return split_attention(state, r".*\.self_attn")

    def _encode(self, batch: ImageList) -> tuple[Levels, Tensor, SelectedQueries]:
        height, width = batch.tensors.shape[-2:]
        images = pad(batch.tensors, (0, max(SMALLEST - width, 0), 0, max(SMALLEST - height, 0)))
        maps = self.neck(self.backbone(images))
        levels = self.flatten(maps, batch.image_sizes, (images.shape[-2], images.shape[-1]))
        memory = self.encoder(levels)
        return levels, memory, self.selection(memory, levels, self.heads.classes[-1], self.heads.boxes[-1])

    def _decode(
        self, levels: Levels, memory: Tensor, selection: SelectedQueries, noised: NoisedQueries | None
    ) -> tuple[Tensor, Tensor]:
        content, boxes, mask = selection.content, selection.boxes.detach(), None
        if noised is not None:
            per_group = noised.boxes.shape[1] // (2 * noised.groups)
            mask = attention_mask(per_group, noised.groups, boxes.shape[1], boxes.device)
            content, boxes = torch.cat((noised.content, content), 1), torch.cat((noised.boxes, boxes), 1)
        return self.decoder(content, boxes, memory, levels, self.heads.boxes, mask)

    def _set_losses(
        self, selection: SelectedQueries, logits: Tensor, boxes: Tensor, objects: Objects
    ) -> dict[str, Tensor]:
        """Return the losses of the encoder and of all layers, each matched independently."""
        logits, boxes = torch.cat((selection.logits[None], logits)), torch.cat((selection.boxes[None], boxes))
        count = mean_count(sum(objects.counts), logits.device)
        losses = set_losses(logits, boxes, match(logits, boxes, objects), objects, count)
        parts = {"_encoder": slice(1), "_auxiliary": slice(1, -1), "": slice(-1, None)}
        return {
            f"loss_{kind}{part}": loss[which].sum() for part, which in parts.items() for kind, loss in losses.items()
        }

    def _denoising_losses(self, logits: Tensor, boxes: Tensor, objects: Objects, groups: int) -> dict[str, Tensor]:
        pairs = denoising_pairs(objects, groups, len(logits))
        count = mean_count(groups * sum(objects.counts), logits.device)
        losses = set_losses(logits, boxes, pairs, objects, count)
        return {f"loss_{kind}_denoising": loss.sum() for kind, loss in losses.items()}


def top_detections(logits: Tensor, boxes: Tensor, image_sizes: Sequence[Size], most: int) -> list[dict[str, Tensor]]:
    """Return the highest scores over queries and classes together: a query may be detected as several classes.

    Args:
        logits: (B, Q, classes).
        boxes: (B, Q, 4) as (cx, cy, w, h) relative to the image.
        image_sizes: (height, width) of each image in pixels.
        most: detections kept per image.
    """
    num_classes = logits.shape[-1]
    scores, indices = logits.float().sigmoid().flatten(1).topk(min(most, logits[0].numel()), dim=1)
    found = []
    for score, index, box, (height, width) in zip(scores, indices, boxes.float(), image_sizes, strict=True):
        pixels = to_corners(box)[index // num_classes] * box.new_tensor([width, height, width, height])
        pixels = clip_boxes_to_image(pixels, (height, width))
        found.append({"boxes": pixels, "labels": index % num_classes, "scores": score})
    return found
