"""Class and box heads: one pair for each layer of the decoder, and a last one for the encoder."""

import math

import torch
from torch import Tensor, nn
from transformers.models.deformable_detr.modeling_deformable_detr import DeformableDetrMLPPredictionHead

from foveal.tasks.detection.dino.decoder import refine

# Every class begins with this probability, so that many negatives do not drown the few positives (RetinaNet, 4.1).
PRIOR = 0.01


class Heads(nn.Module):
    """Shared by none: each layer has its own, as published."""

    def __init__(self, num_classes: int, dim: int, decoder_layers: int) -> None:
        super().__init__()
        self.classes = nn.ModuleList(_class_head(dim, num_classes) for _ in range(decoder_layers + 1))
        self.boxes = nn.ModuleList(_box_head(dim) for _ in range(decoder_layers + 1))

    def forward(self, queries: Tensor, starts: Tensor, first: int = 0) -> tuple[Tensor, Tensor]:
        """Logits (S, B, Q, classes) and boxes (S, B, Q, 4) of the decoder's layers from ``first`` on.

        Args:
            queries: (S, B, Q, dim) of these layers.
            starts: (S, B, Q, 4), the boxes that they start from.
        """
        logits = [head(q) for head, q in zip(self.classes[first:], queries)]
        boxes = [refine(head(q), start) for head, q, start in zip(self.boxes[first:], queries, starts)]
        return torch.stack(logits), torch.stack(boxes)


def _class_head(dim: int, num_classes: int) -> nn.Linear:
    head = nn.Linear(dim, num_classes)
    nn.init.constant_(head.bias, -math.log((1 - PRIOR) / PRIOR))
    return head


def _box_head(dim: int) -> DeformableDetrMLPPredictionHead:
    """Moves no box at the start: the first boxes are the proposals."""
    head = DeformableDetrMLPPredictionHead(dim, dim, 4, num_layers=3)
    last = head.layers[-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return head
