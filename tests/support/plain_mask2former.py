"""Mask2Former in plain arithmetic, in double precision.

Weights are a dict with the names of MMSegmentation 1 and MMDetection 3. The computation follows the papers (Deformable
DETR, Mask2Former) and the training settings of the released checkpoints, for one image at a time.
"""

import math

import torch
from torch import Tensor

from support.plain_dino import Weights, attention, deformable, feed_forward, linear, mlp, normed, waves

PIXELS, DECODER = "decode_head.pixel_decoder", "decode_head.transformer_decoder"
GROUPS = 32


def convolved(w: Weights, name: str, m: Tensor) -> Tensor:
    """Convolution of (C, h, w) with an odd kernel and zero padding, with the bias if there is one."""
    weight = w[f"{name}.weight"]
    (height, width), reach = m.shape[1:], weight.shape[-1] // 2
    padded = torch.zeros(len(m), height + 2 * reach, width + 2 * reach, dtype=m.dtype)
    padded[:, reach : reach + height, reach : reach + width] = m
    total = torch.zeros(len(weight), height, width, dtype=m.dtype)
    for row in range(weight.shape[2]):
        for column in range(weight.shape[3]):
            part = padded[:, row : row + height, column : column + width]
            total += torch.einsum("oc,chw->ohw", weight[:, :, row, column], part)
    return total + w.get(f"{name}.bias", torch.zeros(len(weight), dtype=m.dtype))[:, None, None]


def group_normed(w: Weights, name: str, m: Tensor) -> Tensor:
    groups = m.reshape(GROUPS, -1)
    centred = groups - groups.mean(1, keepdim=True)
    unit = (centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()).view(m.shape)
    return unit * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]


def resized(m: Tensor, height: int, width: int) -> Tensor:
    """Resize (C, h, w) bilinearly, with pixel centres at half-integers and border padding."""

    def shares(wanted: int, given: int) -> Tensor:
        table = torch.zeros(wanted, given, dtype=m.dtype)
        for place in range(wanted):
            at = max((place + 0.5) * given / wanted - 0.5, 0)
            low = min(math.floor(at), given - 1)
            table[place, low] += 1 - (at - low)
            table[place, min(low + 1, given - 1)] += at - low
        return table

    return torch.einsum("ih,jw,chw->cij", shares(height, m.shape[1]), shares(width, m.shape[2]), m)


def positions(height: int, width: int, dim: int) -> Tensor:
    """(h * w, dim): sinusoidal embedding of the ends of rows and columns, y first; 1e-6 is added to the size."""
    rows = [waves((row + 1) / (height + 1e-6), dim // 2, 10000) for row in range(height)]
    columns = [waves((column + 1) / (width + 1e-6), dim // 2, 10000) for column in range(width)]
    return torch.tensor([row + column for row in rows for column in columns], dtype=torch.float64)


def masked_attention(w: Weights, name: str, asking: Tensor, keys: Tensor, values: Tensor, seen: Tensor, heads: int):
    """Queries (Q, dim) attend to tokens (N, dim) where ``seen`` (Q, N) is true."""
    parts = [
        x @ weight.T + bias
        for x, weight, bias in zip(
            (asking, keys, values),
            w[f"{name}.in_proj_weight"].chunk(3),
            w[f"{name}.in_proj_bias"].chunk(3),
            strict=True,
        )
    ]
    q, k, v = (part.view(len(part), heads, -1).transpose(0, 1) for part in parts)
    shares = (q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])).masked_fill(~seen, -math.inf).softmax(-1)
    return linear(w, f"{name}.out_proj", (shares @ v).transpose(0, 1).reshape(asking.shape))


class PlainMask2Former:
    """Mask2Former on the feature maps (C, h, w) of one image, from fine to coarse."""

    def __init__(self, w: Weights, maps: list[Tensor], heads: int) -> None:
        self.w, self.maps, self.heads = w, maps, heads
        self.coarse = [tuple(m.shape[1:]) for m in reversed(maps[1:])]
        self.dim = w["decode_head.query_feat.weight"].shape[1]

    def pixels(self) -> tuple[Tensor, list[Tensor]]:
        """Mask features (dim, h, w), and the tokens (h * w, dim) of three levels, from coarse to fine."""
        w, levels = self.w, []
        for number, m in enumerate(reversed(self.maps[1:])):
            name = f"{PIXELS}.input_convs.{number}"
            levels.append(group_normed(w, f"{name}.gn", convolved(w, f"{name}.conv", m)).flatten(1).T)
        tokens = self._encode(torch.cat(levels)).split([height * width for height, width in self.coarse])
        lateral, output = f"{PIXELS}.lateral_convs.0", f"{PIXELS}.output_convs.0"
        finest = group_normed(w, f"{lateral}.gn", convolved(w, f"{lateral}.conv", self.maps[0]))
        finest = finest + resized(tokens[2].T.reshape(self.dim, *self.coarse[2]), *finest.shape[1:])
        finest = group_normed(w, f"{output}.gn", convolved(w, f"{output}.conv", finest)).clamp(min=0)
        return convolved(w, f"{PIXELS}.mask_feature", finest), list(tokens)

    def _encode(self, tokens: Tensor) -> Tensor:
        w = self.w
        level = w[f"{PIXELS}.level_encoding.weight"]
        places = torch.cat([positions(*shape, self.dim) + level[i] for i, shape in enumerate(self.coarse)])
        centres = [
            [(column + 0.5) / width, (row + 0.5) / height]
            for height, width in self.coarse
            for row in range(height)
            for column in range(width)
        ]
        references = torch.tensor(centres, dtype=torch.float64)[:, None].expand(-1, 3, -1)
        everywhere = torch.ones(len(tokens), dtype=torch.bool)
        for number in range(self._count(f"{PIXELS}.encoder")):
            name = f"{PIXELS}.encoder.layers.{number}"
            looked = deformable(
                w, f"{name}.self_attn", tokens + places, tokens, everywhere, self.coarse, references, self.heads
            )
            tokens = normed(w, f"{name}.norms.0", tokens + looked)
            tokens = normed(w, f"{name}.norms.1", feed_forward(w, f"{name}.ffn.layers", tokens))
        return tokens

    def decode(self) -> tuple[list[Tensor], list[Tensor]]:
        """Class logits (Q, C + 1) and masks (Q, h, w), before the first layer and after each layer."""
        w = self.w
        features, levels = self.pixels()
        query, place = w["decode_head.query_feat.weight"], w["decode_head.query_embed.weight"]
        logits, masks = [], []
        for number in range(self._count(DECODER)):
            self._predict(query, features, logits, masks)
            level, shape = number % 3, self.coarse[number % 3]
            memory = levels[level] + w["decode_head.level_embed.weight"][level]
            seen = resized(masks[-1], *shape).flatten(1) >= 0
            seen[~seen.any(1)] = True
            name = f"{DECODER}.layers.{number}"
            keys = memory + positions(*shape, self.dim)
            looked = masked_attention(w, f"{name}.cross_attn.attn", query + place, keys, memory, seen, self.heads)
            query = normed(w, f"{name}.norms.0", query + looked)
            query = normed(
                w, f"{name}.norms.1", query + attention(w, f"{name}.self_attn.attn", query, place, self.heads)
            )
            query = normed(w, f"{name}.norms.2", feed_forward(w, f"{name}.ffn.layers", query))
        self._predict(query, features, logits, masks)
        return logits, masks

    def scores(self, height: int, width: int) -> Tensor:
        """Class scores (C, height, width) of the last layer."""
        logits, masks = (predictions[-1] for predictions in self.decode())
        total = torch.zeros(logits.shape[1] - 1, height, width, dtype=torch.float64)
        for of_classes, mask in zip(logits.softmax(1)[:, :-1], masks, strict=True):
            total += of_classes[:, None, None] * resized(mask[None], height, width).sigmoid()
        return total

    def _predict(self, query: Tensor, features: Tensor, logits: list[Tensor], masks: list[Tensor]) -> None:
        states = normed(self.w, f"{DECODER}.post_norm", query)
        logits.append(linear(self.w, "decode_head.cls_embed", states))
        embedding = mlp(self.w, [f"decode_head.mask_embed.{layer}" for layer in (0, 2, 4)], states)
        masks.append(torch.einsum("qc,chw->qhw", embedding, features))

    def _count(self, name: str) -> int:
        return sum(key.startswith(f"{name}.layers.") and key.endswith("norms.1.weight") for key in self.w)
