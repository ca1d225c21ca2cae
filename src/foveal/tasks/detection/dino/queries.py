"""Queries: their selection from the encoder's tokens, and the heads that predict classes and boxes from them."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.models.deformable_detr.modeling_deformable_detr import DeformableDetrMLPPredictionHead

from foveal.tasks.detection.dino.levels import Levels
from foveal.tasks.detection.dino.transformer import refine

# Side of the box that a token of the first level proposes, relative to the image; each level doubles it.
FIRST_SIDE = 0.05
# Tokens whose centre is closer than this to an image border propose nothing.
BORDER = 0.01
# Initial probability of every class, so that many negatives do not drown the few positives (RetinaNet, 4.1).
PRIOR = 0.01


class Heads(nn.Module):
    """Class and box heads: a pair for each decoder layer, and one more for the encoder. No weights are shared."""

    def __init__(self, num_classes: int, dim: int, decoder_layers: int) -> None:
        super().__init__()
        self.classes = nn.ModuleList(_class_head(dim, num_classes) for _ in range(decoder_layers + 1))
        self.boxes = nn.ModuleList(_box_head(dim) for _ in range(decoder_layers + 1))

    def forward(self, queries: Tensor, starts: Tensor, first: int = 0) -> tuple[Tensor, Tensor]:
        """Return logits (S, B, Q, classes) and boxes (S, B, Q, 4) of S decoder layers, starting with ``first``.

        Args:
            queries: (S, B, Q, dim) after these layers.
            starts: (S, B, Q, 4), the boxes that they refine.
        """
        logits = [head(q) for head, q in zip(self.classes[first:], queries)]
        boxes = [refine(head(q), start) for head, q, start in zip(self.boxes[first:], queries, starts)]
        return torch.stack(logits), torch.stack(boxes)


def _class_head(dim: int, num_classes: int) -> nn.Linear:
    head = nn.Linear(dim, num_classes)
    nn.init.constant_(head.bias, -math.log((1 - PRIOR) / PRIOR))
    return head


def _box_head(dim: int) -> DeformableDetrMLPPredictionHead:
    """Return a box head that initially moves no box, so that the first boxes are the proposals."""
    head = DeformableDetrMLPPredictionHead(dim, dim, 4, num_layers=3)
    last = head.layers[-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return head


@dataclass(frozen=True)
class SelectedQueries:
    """Queries of the Q tokens selected from N, best first; Q is the number of queries, or N if that is smaller.

    Attributes:
        content: (B, Q, dim), the learned queries.
        boxes: (B, Q, 4) as (cx, cy, w, h) relative to the image, with gradient: the encoder's own predictions.
        logits: (B, Q, classes), likewise.
        tokens: (B, Q) int64, indices of the selected tokens.
    """

    content: Tensor
    boxes: Tensor
    logits: Tensor
    tokens: Tensor


class QuerySelection(nn.Module):
    """Mixed query selection: boxes from the encoder's best tokens, content learned (DINO, section 3.4)."""

    def __init__(self, queries: int, dim: int) -> None:
        super().__init__()
        self.project, self.norm = nn.Linear(dim, dim), nn.LayerNorm(dim)
        self.content = nn.Embedding(queries, dim)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.xavier_uniform_(self.content.weight)

    def forward(self, memory: Tensor, levels: Levels, class_head: nn.Module, box_head: nn.Module) -> SelectedQueries:
        """Select tokens of the encoder's memory (B, N, dim) by the highest class score of each."""
        proposals, valid = propose(levels)
        states = self.norm(self.project(memory.masked_fill(~valid[..., None], 0)))
        logits = class_head(states)
        count = min(self.content.num_embeddings, states.shape[1])
        tokens = logits.detach().amax(-1).topk(count, dim=1).indices
        # Boxes are only needed for the selected tokens.
        boxes = (box_head(_take(states, tokens)) + _take(proposals, tokens)).sigmoid()
        content = self.content.weight[:count].expand(len(memory), -1, -1)
        return SelectedQueries(content, boxes, _take(logits, tokens), tokens)


def propose(levels: Levels) -> tuple[Tensor, Tensor]:
    """Return each token's proposal (B, N, 4) as logits, infinite if invalid; and which are valid, (B, N) bool.

    Tokens close to an image border or in the padding have no valid proposal.
    """
    sides = [
        levels.centres.new_full((height * width, 2), FIRST_SIDE * 2**level)
        for level, (height, width) in enumerate(levels.shapes)
    ]
    boxes = torch.cat((levels.centres, torch.cat(sides).expand_as(levels.centres)), -1)
    valid = ((boxes > BORDER) & (boxes < 1 - BORDER)).all(-1) & levels.inside
    return torch.logit(boxes).masked_fill(~valid[..., None], torch.inf), valid


def _take(rows: Tensor, indices: Tensor) -> Tensor:
    """Return the rows of (B, N, C) at indices (B, Q): (B, Q, C)."""
    return rows.gather(1, indices[..., None].expand(-1, -1, rows.shape[-1]))
