"""TransNeXt written directly from the formulas: every pair of tokens is computed, without sharing or caching.

It is slow, runs in the dtype of the state dict, and takes a state dict with Foveal's names. It is checked against the
stored outputs of the authors' models and serves as reference for other sizes, modes and gradients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
Size = tuple[int, int]


@dataclass(frozen=True)
class Settings:
    """The model arguments that change the computation."""

    img_size: Size = (224, 224)
    pretrain_size: Size = (224, 224)
    window_size: tuple[int, ...] = (3, 3, 3, 3)
    pool_size: int | None = None
    position_bias: str = "extrapolate"
    length_scaling: bool = True
    sr_ratios: tuple[int, ...] = (8, 4, 2, 1)
    token_mixers: str = "AAAM"


def part(state: State, prefix: str) -> State:
    """The entries under a prefix."""
    return {name[len(prefix) + 1 :]: t for name, t in state.items() if name.startswith(prefix + ".")}


def linear(p: State, name: str, x: Tensor) -> Tensor:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def layer_norm(p: State, name: str, x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * p[f"{name}.weight"] + p[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def unit(x: Tensor) -> Tensor:
    return x / x.square().sum(-1, keepdim=True).sqrt().clamp_min(1e-12)


def image_to_map(size: Size, stage: int) -> Size:
    """Size of the feature map of a stage (0 to 3): strides of 4, 2, 2, 2, each rounding up."""
    height, width = (-(-s // 4) for s in size)
    for _ in range(stage):
        height, width = -(-height // 2), -(-width // 2)
    return height, width


def pooled_size(size: Size, stage: int, settings: Settings) -> Size:
    """(Hp, Wp) in normal or linear mode; never empty and never larger than the map."""
    if settings.pool_size is None:
        ratio = settings.sr_ratios[stage]
        return max(size[0] // ratio, 1), max(size[1] // ratio, 1)
    return min(settings.pool_size, size[0]), min(settings.pool_size, size[1])


def cell_centres(size: int, cells: int, like: Tensor) -> Tensor:
    """Adaptive average of the pixel indices."""
    return F.adaptive_avg_pool1d(torch.arange(size, dtype=like.dtype)[None], cells)[0]


def position_bias(p: State, size: Size, keys: Size, sides: tuple[int, int]) -> Tensor:
    """(h, H*W, Hp*Wp): the MLP applied to the offset of every query and key."""
    offsets = []
    for length, cells, side in zip(size, keys, sides, strict=True):
        centres = cell_centres(length, cells, p["cpb_fc1.weight"])
        x = (torch.arange(length)[:, None] - centres) / (side - 1) * 8
        offsets.append(x.sign() * (x.abs() + 1).log2() / math.log2(8))
    rows, columns = offsets
    pairs = torch.stack(
        torch.broadcast_tensors(rows[:, None, :, None], columns[None, :, None, :]), -1
    )  # (H, W, Hp, Wp, 2)
    bias = linear(p, "cpb_fc2", linear(p, "cpb_fc1", pairs).relu())
    return bias.flatten(2, 3).flatten(0, 1).permute(2, 0, 1)


def resized_bias(bias: Tensor, size: Size, keys: Size, new_size: Size, new_keys: Size) -> Tensor:
    """Bilinear resize, first over the key axes for every query, then over the query axes for every key."""
    heads = bias.shape[0]
    by_query = bias.reshape(heads * size[0] * size[1], 1, *keys)
    by_query = F.interpolate(by_query, new_keys, mode="bilinear", align_corners=False)
    by_key = by_query.reshape(heads, *size, new_keys[0] * new_keys[1]).permute(0, 3, 1, 2)
    return F.interpolate(by_key, new_size, mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)


def bias_for(p: State, size: Size, stage: int, settings: Settings) -> Tensor:
    """Position bias of the feature map of a stage in either mode."""

    def keys(of: Size) -> Size:
        return pooled_size(of, stage, settings) if settings.token_mixers[stage] == "A" else of

    sides = tuple(s // 2 ** (stage + 2) for s in settings.pretrain_size)
    if settings.position_bias == "extrapolate":
        return position_bias(p, size, keys(size), sides)
    reference = image_to_map(settings.img_size, stage)
    bias = position_bias(p, reference, keys(reference), sides)
    return resized_bias(bias, reference, keys(reference), size, keys(size))


def key_count(size: Size, stage: int, settings: Settings) -> int:
    """Number of coarse keys for length scaling; without length scaling, the number in pre-training."""
    seen = size if settings.length_scaling else tuple(s // 2 ** (stage + 2) for s in settings.pretrain_size)
    height, width = pooled_size(seen, stage, settings) if settings.token_mixers[stage] == "A" else seen
    return height * width


def heads_of(x: Tensor, heads: int) -> Tensor:
    """(B, ..., C) to (B, heads, N, C / heads)."""
    return x.flatten(1, -2).unflatten(-1, (heads, -1)).transpose(1, 2)


def scaled_query(p: State, q: Tensor, log_n: Tensor) -> Tensor:
    return (unit(q) + p["query_embedding"]) * F.softplus(p["temperature"]) * log_n


def aggregated_attention(p: State, x: Tensor, stage: int, settings: Settings) -> Tensor:
    """Steps 1-8 of math.md, with the window as a mask over all pairs of tokens."""
    height, width, channels = x.shape[1:]
    heads, window = p["temperature"].shape[0], settings.window_size[stage]
    q = heads_of(linear(p, "q", x), heads)
    k, v = (heads_of(t, heads) for t in linear(p, "kv", x).split(channels, -1))
    pooled = gelu(x @ p["sr.weight"].flatten(1).T + p["sr.bias"]).permute(0, 3, 1, 2)
    pooled = F.adaptive_avg_pool2d(pooled, pooled_size((height, width), stage, settings)).permute(0, 2, 3, 1)
    pooled = linear(p, "kv", layer_norm(p, "norm", pooled, 1e-5))
    k_pool, v_pool = (heads_of(t, heads) for t in pooled.split(channels, -1))

    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    down, right = (t.flatten() - t.flatten()[:, None] for t in (row, column))  # (N, N): from query to key
    radius = window // 2
    inside = (down.abs() <= radius) & (right.abs() <= radius)
    slot = torch.where(inside, (down + radius) * window + right + radius, 0)
    log_n = (inside.sum(1) + key_count((height, width), stage, settings)).to(x.dtype).log()[:, None]

    query = scaled_query(p, q, log_n)
    fine = query @ unit(k).mT + p["relative_pos_bias_local"][:, slot]
    coarse = query @ unit(k_pool).mT + bias_for(p, (height, width), stage, settings)
    weights = torch.cat([fine.masked_fill(~inside, -torch.inf), coarse], -1).softmax(-1)
    fine, coarse = weights.split([height * width, coarse.shape[-1]], -1)
    position = unit(q) @ p["learnable_tokens"] + p["learnable_bias"]  # (B, h, N, k*k)
    fine = fine + inside * position.gather(-1, slot.expand(*position.shape[:2], -1, -1))
    y = fine @ v + coarse @ v_pool
    return linear(p, "proj", y.transpose(1, 2).reshape(x.shape))


def self_attention(p: State, x: Tensor, stage: int, settings: Settings) -> Tensor:
    """Multi-head self-attention of stage 4."""
    size, heads = tuple(x.shape[1:3]), p["temperature"].shape[0]
    q, k, v = (heads_of(t, heads) for t in linear(p, "qkv", x).split(x.shape[-1], -1))
    query = scaled_query(p, q, torch.tensor(math.log(key_count(size, stage, settings)), dtype=x.dtype))
    y = (query @ unit(k).mT + bias_for(p, size, stage, settings)).softmax(-1) @ v
    return linear(p, "proj", y.transpose(1, 2).reshape(x.shape))


def convolutional_glu(p: State, x: Tensor) -> Tensor:
    g, v = linear(p, "fc1", x).chunk(2, -1)
    g = F.conv2d(g.permute(0, 3, 1, 2), p["dwconv.weight"], p["dwconv.bias"], padding=1, groups=g.shape[-1])
    return linear(p, "fc2", gelu(g.permute(0, 2, 3, 1)) * v)


def features(state: State, x: Tensor, settings: Settings = Settings()) -> list[Tensor]:
    """Feature maps of the four stages, (B, C, H, W)."""
    maps = []
    for stage in range(4):
        p = part(state, f"stages.{stage}")
        stride = 2 if stage else 4
        proj = p["downsample.proj.weight"]
        x = F.conv2d(x, proj, p["downsample.proj.bias"], stride, proj.shape[-1] // 2).permute(0, 2, 3, 1)
        x = layer_norm(p, "downsample.norm", x, 1e-5)
        for block in sorted({int(name.split(".")[1]) for name in p if name.startswith("blocks.")}):
            b = part(p, f"blocks.{block}")
            attention = aggregated_attention if settings.token_mixers[stage] == "A" else self_attention
            x = x + attention(part(b, "attn"), layer_norm(b, "norm1", x, 1e-6), stage, settings)
            x = x + convolutional_glu(part(b, "mlp"), layer_norm(b, "norm2", x, 1e-6))
        x = layer_norm(p, "norm", x, 1e-6).permute(0, 3, 1, 2)
        maps.append(x)
    return maps


def logits(state: State, x: Tensor, settings: Settings = Settings()) -> Tensor:
    return linear(state, "head.fc", features(state, x, settings)[-1].mean((2, 3)))
