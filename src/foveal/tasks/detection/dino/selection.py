"""Mixed query selection: places from the encoder's best tokens, content learned (DINO, section 3.4)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveal.tasks.detection.dino.levels import Levels

# Side of the box that a token of the first level proposes, relative to the image; each level doubles it.
FIRST_SIDE = 0.05
# Tokens whose proposal's centre lies nearer to an image's border than this propose nothing.
BORDER = 0.01


@dataclass(frozen=True)
class Selection:
    """What was selected of the N tokens, best first; Q is the queries, or N where that is less.

    Attributes:
        content: (B, Q, dim), the learned queries.
        boxes: (B, Q, 4) as (cx, cy, w, h) relative to the image, with gradient: the encoder's own predictions.
        logits: (B, Q, classes) of them.
        tokens: (B, Q) int64, which tokens they are.
    """

    content: Tensor
    boxes: Tensor
    logits: Tensor
    tokens: Tensor


class QuerySelection(nn.Module):
    """Every token predicts a class and a box; the best ones are where the decoder begins."""

    def __init__(self, queries: int, dim: int) -> None:
        super().__init__()
        self.project, self.norm = nn.Linear(dim, dim), nn.LayerNorm(dim)
        self.content = nn.Embedding(queries, dim)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.xavier_uniform_(self.content.weight)

    def forward(self, memory: Tensor, levels: Levels, class_head: nn.Module, box_head: nn.Module) -> Selection:
        """Select from the encoder's memory (B, N, dim) by the best class of each token."""
        proposals, able = propose(levels)
        states = self.norm(self.project(memory.masked_fill(~able[..., None], 0)))
        logits = class_head(states)
        count = min(self.content.num_embeddings, states.shape[1])
        tokens = logits.detach().amax(-1).topk(count, dim=1).indices
        # Boxes are wanted of the selected tokens alone.
        boxes = (box_head(_take(states, tokens)) + _take(proposals, tokens)).sigmoid()
        content = self.content.weight[:count].expand(len(memory), -1, -1)
        return Selection(content, boxes, _take(logits, tokens), tokens)


def propose(levels: Levels) -> tuple[Tensor, Tensor]:
    """Each token's proposal (B, N, 4) before the sigmoid, infinite where it is not able to; and able (B, N) bool."""
    sides = [
        FIRST_SIDE * 2**level for level, (height, width) in enumerate(levels.shapes) for _ in range(height * width)
    ]
    side = levels.centres.new_tensor(sides)[:, None].expand(len(levels.centres), -1, 2)
    boxes = torch.cat((levels.centres, side), -1)
    able = ((boxes > BORDER) & (boxes < 1 - BORDER)).all(-1) & levels.inside
    return torch.logit(boxes).masked_fill(~able[..., None], torch.inf), able


def _take(rows: Tensor, indices: Tensor) -> Tensor:
    """Rows (B, N, C) at indices (B, Q): (B, Q, C)."""
    return rows.gather(1, indices[..., None].expand(-1, -1, rows.shape[-1]))
