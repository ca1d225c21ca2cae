"""DINO in plain arithmetic and loops, in double precision.

Weights are a dict with MMDetection 3's names. The computation follows the papers (Deformable DETR, DAB-DETR, DINO) and
the training settings of the released checkpoints.
"""

import math

import torch
from torch import Tensor

Weights = dict[str, Tensor]


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def normed(w: Weights, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def mlp(w: Weights, names: list[str], x: Tensor) -> Tensor:
    for name in names[:-1]:
        x = linear(w, name, x).clamp(min=0)
    return linear(w, names[-1], x)


def waves(coordinate: float, size: int, temperature: float) -> list[float]:
    """Sinusoidal embedding sin, cos, sin, cos, ... of one coordinate in [0, 1]."""
    found = []
    for number in range(size):
        angle = 2 * math.pi * coordinate / temperature ** (2 * (number // 2) / size)
        found.append(math.cos(angle) if number % 2 else math.sin(angle))
    return found


def logit(x: Tensor, eps: float) -> Tensor:
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))


def bilinear(plane: Tensor, x: float, y: float) -> Tensor:
    """Bilinear sample of (H, W, C) with pixel centres at half-integers and zero padding."""
    height, width, channels = plane.shape
    total = torch.zeros(channels, dtype=plane.dtype)
    left, top = math.floor(x - 0.5), math.floor(y - 0.5)
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < height and 0 <= column < width:
                share = (1 - abs(x - 0.5 - column)) * (1 - abs(y - 0.5 - row))
                total += share * plane[row, column]
    return total


def deformable_sum(planes: list[Tensor], places: Tensor, weights: Tensor) -> Tensor:
    """One query of one head: weighted sum of samples of planes (H, W, C) at (levels, points, 2) in [0, 1]."""
    total = torch.zeros(planes[0].shape[-1], dtype=planes[0].dtype)
    for plane, at, weight in zip(planes, places, weights, strict=True):
        for (x, y), share in zip(at.tolist(), weight.tolist(), strict=True):
            total += share * bilinear(plane, x * plane.shape[1], y * plane.shape[0])
    return total


def deformable(
    w: Weights, name: str, queries: Tensor, memory: Tensor, inside: Tensor, shapes: list, boxes: Tensor, heads: int
) -> Tensor:
    """Queries (Q, dim) attend to memory (N, dim) around reference points (Q, levels, 2 or 4)."""
    values = linear(w, f"{name}.value_proj", memory) * inside[:, None]
    width, levels = values.shape[1] // heads, len(shapes)
    offsets = linear(w, f"{name}.sampling_offsets", queries).view(len(queries), heads, levels, -1, 2)
    shares = linear(w, f"{name}.attention_weights", queries).view(len(queries), heads, -1).softmax(-1)
    shares = shares.view(offsets.shape[:-1])
    reach = torch.tensor([[1 / columns, 1 / rows] for rows, columns in shapes], dtype=values.dtype)[None, None, :, None]
    if boxes.shape[-1] == 4:
        reach = boxes[:, None, :, None, 2:] / 2 / offsets.shape[3]
    places = boxes[:, None, :, None, :2] + offsets * reach
    parts = values.split([rows * columns for rows, columns in shapes])
    found = torch.zeros_like(queries)
    for head in range(heads):
        mine = slice(head * width, (head + 1) * width)
        planes = [part[:, mine].view(*shape, width) for part, shape in zip(parts, shapes, strict=True)]
        for query in range(len(queries)):
            found[query, mine] = deformable_sum(planes, places[query, head], shares[query, head])
    return linear(w, f"{name}.output_proj", found)


def attention(w: Weights, name: str, x: Tensor, position: Tensor, heads: int) -> Tensor:
    """nn.MultiheadAttention over (Q, dim), with positions added to queries and keys."""
    parts = [
        part_in @ weight.T + bias
        for part_in, weight, bias in zip(
            (x + position, x + position, x),
            w[f"{name}.in_proj_weight"].chunk(3),
            w[f"{name}.in_proj_bias"].chunk(3),
            strict=True,
        )
    ]
    q, k, v = (part.view(len(x), heads, -1).transpose(0, 1) for part in parts)
    shares = (q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])).softmax(-1)
    return linear(w, f"{name}.out_proj", (shares @ v).transpose(0, 1).reshape(x.shape))


def feed_forward(w: Weights, name: str, x: Tensor) -> Tensor:
    return x + linear(w, f"{name}.1", linear(w, f"{name}.0.0", x).clamp(min=0))


class PlainDino:
    """The levels (dim, H, W) of one image; ``extents`` are the rows and columns of each that are inside the image."""

    def __init__(self, w: Weights, levels: list[Tensor], extents: list[tuple[int, int]], heads: int, layers: int):
        self.w, self.heads, self.layers = w, heads, layers
        self.shapes = [tuple(level.shape[1:]) for level in levels]
        self.extents, self.dim = extents, levels[0].shape[0]
        self.tokens = torch.cat([level.flatten(1).T for level in levels])
        self.places = [
            (level, row, column)
            for level, (height, width) in enumerate(self.shapes)
            for row in range(height)
            for column in range(width)
        ]
        self.inside = self._each(lambda level, y, x: y < extents[level][0] and x < extents[level][1]).bool()
        self.ratios = torch.tensor(
            [[e[1] / s[1], e[0] / s[0]] for e, s in zip(extents, self.shapes, strict=True)], dtype=torch.float64
        )

    def _each(self, value) -> Tensor:
        return torch.tensor([value(*place) for place in self.places], dtype=torch.float64)

    def positions(self) -> Tensor:
        """Embedding of the far edge of each token, y in the first half, x in the second, plus the level embedding."""

        def of(level: int, row: int, column: int) -> list[float]:
            rows, columns = self.extents[level]
            half = self.dim // 2
            return waves((row + 1) / rows, half, 20) + waves((column + 1) / columns, half, 20)

        level = self._each(lambda level, row, column: level).long()
        return self._each(of) + self.w["level_embed"][level]

    def centres(self) -> Tensor:
        return self._each(
            lambda level, row, column: [
                (column + 0.5) / self.extents[level][1],
                (row + 0.5) / self.extents[level][0],
            ]
        )

    def encode(self) -> Tensor:
        memory, positions = self.tokens, self.positions()
        references = self.centres()[:, None] * self.ratios
        for number in range(self.layers):
            name = f"encoder.layers.{number}"
            looked = self._look(f"{name}.self_attn", memory + positions, memory, references)
            memory = normed(self.w, f"{name}.norms.0", memory + looked)
            memory = normed(self.w, f"{name}.norms.1", feed_forward(self.w, f"{name}.ffn.layers", memory))
        return memory

    def select(self, memory: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The tokens with the highest class scores, and their boxes."""
        side = self._each(lambda level, row, column: [0.05 * 2**level] * 2)
        proposals = torch.cat((self.centres(), side), 1)
        able = ((proposals > 0.01) & (proposals < 0.99)).all(1) & self.inside
        states = normed(self.w, "memory_trans_norm", linear(self.w, "memory_trans_fc", memory * able[:, None]))
        chosen = linear(self.w, f"bbox_head.cls_branches.{self.decoders}", states).amax(1).argsort(descending=True)
        chosen = chosen[:count]
        moved = mlp(self.w, self._box_head(self.decoders), states[chosen])
        boxes = (moved + torch.logit(proposals[chosen])).sigmoid()
        return chosen, torch.where(able[chosen, None], boxes, 1.0)

    def decode(self, memory: Tensor, boxes: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Logits and boxes of each layer."""
        content, logits, found, start = self.w["query_embedding.weight"][: len(boxes)], [], [], boxes
        for number in range(self.decoders):
            name, references = f"decoder.layers.{number}", boxes[:, None] * self.ratios.repeat(1, 2)
            waved = [
                [w for c in (y, x, width, height) for w in waves(c, self.dim // 2, 10000)]
                for x, y, width, height in references[:, 0].tolist()
            ]
            position = mlp(
                self.w,
                ["decoder.ref_point_head.layers.0", "decoder.ref_point_head.layers.1"],
                torch.tensor(waved, dtype=torch.float64),
            )
            seen = attention(self.w, f"{name}.self_attn.attn", content, position, self.heads)
            content = normed(self.w, f"{name}.norms.0", content + seen)
            looked = self._look(f"{name}.cross_attn", content + position, memory, references)
            content = normed(self.w, f"{name}.norms.1", content + looked)
            content = normed(self.w, f"{name}.norms.2", feed_forward(self.w, f"{name}.ffn.layers", content))
            query = normed(self.w, "decoder.norm", content)
            logits.append(linear(self.w, f"bbox_head.cls_branches.{number}", query))
            found.append((mlp(self.w, self._box_head(number), query) + logit(start, 1e-5)).sigmoid())
            boxes = start = (mlp(self.w, self._box_head(number), content) + logit(boxes, 1e-3)).sigmoid()
        return logits, found

    @property
    def decoders(self) -> int:
        return sum(name.endswith("norms.2.weight") for name in self.w)

    def _look(self, name: str, queries: Tensor, memory: Tensor, references: Tensor) -> Tensor:
        return deformable(self.w, name, queries, memory, self.inside, self.shapes, references, self.heads)

    @staticmethod
    def _box_head(number: int) -> list[str]:
        return [f"bbox_head.reg_branches.{number}.{part}" for part in (0, 2, 4)]
