"""TransXNet written directly from the formulas, in the dtype of the state dict; see `plain_transnext`.

Takes a state dict with Foveal's names. In training mode the running statistics are updated as by BatchNorm.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from support.plain_transnext import State, gelu, part

MOMENTUM = 0.1


def conv(p: State, name: str, x: Tensor, stride: int = 1, padding: int | None = None) -> Tensor:
    """Convolution, depthwise if the weights are; padding K // 2 by default."""
    weight = p[f"{name}.weight"]
    padding = weight.shape[-1] // 2 if padding is None else padding
    groups = x.shape[1] // weight.shape[1]
    return F.conv2d(x, weight, p.get(f"{name}.bias"), stride, padding, groups=groups)


def batch_norm(p: State, name: str, x: Tensor, training: bool) -> Tensor:
    """BatchNorm, eps 1e-5; in training it updates the statistics in `p`, with the unbiased variance."""
    mean, variance = p[f"{name}.running_mean"], p[f"{name}.running_var"]
    if training:
        count = x.numel() // x.shape[1]
        moved = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        mean.lerp_(moved[0].detach(), MOMENTUM)
        variance.lerp_(moved[1].detach() * count / (count - 1), MOMENTUM)
        p[f"{name}.num_batches_tracked"] += 1
        mean, variance = moved
    x = (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
    return x * p[f"{name}.weight"][:, None, None] + p[f"{name}.bias"][:, None, None]


def group_norm(p: State, name: str, x: Tensor) -> Tensor:
    """GroupNorm with one group."""
    mean, variance = x.mean((1, 2, 3), keepdim=True), x.var((1, 2, 3), correction=0, keepdim=True)
    x = (x - mean) / (variance + 1e-5).sqrt()
    return x * p[f"{name}.weight"][:, None, None] + p[f"{name}.bias"][:, None, None]


def idconv(p: State, x: Tensor, training: bool) -> Tensor:
    """Depthwise convolution with a kernel per sample and channel, mixed from G learned ones; likewise for the bias."""
    groups, channels, size, _ = p["weight"].shape

    def scores(side: int) -> Tensor:
        y = batch_norm(p, "proj.0.bn", conv(p, "proj.0.conv", F.adaptive_avg_pool2d(x, side)), training)
        return conv(p, "proj.1", gelu(y)).reshape(-1, groups, channels, side, side).softmax(1)

    weight = (scores(size) * p["weight"]).sum(1)
    bias = (scores(1)[..., 0, 0] * p["bias"]).sum(1)
    samples = [
        F.conv2d(image[None], kernel[:, None], offset, padding=size // 2, groups=channels)
        for image, kernel, offset in zip(x, weight, bias, strict=True)
    ]
    return torch.cat(samples)


def osra(p: State, x: Tensor, table: Tensor, training: bool) -> Tensor:
    """Overlapping spatial-reduction attention; `table` (1, h, N, keys) has the size of the map."""
    heads = table.shape[1]
    reduced = x
    if "sr.0.conv.weight" in p:
        kernel = p["sr.0.conv.weight"].shape[-1]
        reduced = gelu(batch_norm(p, "sr.0.bn", conv(p, "sr.0.conv", x, stride=kernel - 3), training))
        reduced = batch_norm(p, "sr.1.bn", conv(p, "sr.1.conv", reduced), training)
    reduced = conv(p, "local_conv", reduced) + reduced
    k, v = conv(p, "kv", reduced).split(x.shape[1], 1)
    q, k, v = (t.flatten(2).unflatten(1, (heads, -1)) for t in (conv(p, "q", x), k, v))  # (B, h, d, N)
    weights = (q.mT @ k / math.sqrt(q.shape[2]) + table).softmax(-1)
    return (v @ weights.mT).reshape(x.shape)


def token_enhancer(p: State, x: Tensor, training: bool) -> Tensor:
    y = batch_norm(p, "2", gelu(conv(p, "0", x)), training)
    y = batch_norm(p, "5", gelu(conv(p, "3", y)), training)
    return batch_norm(p, "7", conv(p, "6", y), training) + x


def multi_scale_ffn(p: State, x: Tensor, training: bool) -> Tensor:
    x = batch_norm(p, "fc1.2", gelu(conv(p, "fc1.0", x)), training)
    quarter = x.shape[1] // 4
    parts = x.split([x.shape[1] - 3 * quarter, quarter, quarter, quarter], 1)
    y = torch.cat([conv(p, f"dwconv.proj.{i}", t) for i, t in enumerate(parts)], 1) + x
    y = batch_norm(p, "norm", gelu(y), training)
    return batch_norm(p, "fc2.1", conv(p, "fc2.0", y), training)


def layer_scale(p: State, name: str, x: Tensor) -> Tensor:
    return x * p[f"{name}.weight"][:, 0] + p[f"{name}.bias"][:, None, None]


def block(p: State, x: Tensor, table: Tensor, training: bool) -> Tensor:
    x = x + conv(p, "pos_embed", x)
    first, second = group_norm(p, "norm1", x).chunk(2, 1)
    mixer = part(p, "token_mixer")
    local = idconv(part(mixer, "local_unit"), first, training)
    distant = osra(part(mixer, "global_unit"), second, table, training)
    mixed = token_enhancer(part(mixer, "proj"), torch.cat([local, distant], 1), training)
    x = x + layer_scale(p, "layer_scale_1", mixed)
    return x + layer_scale(p, "layer_scale_2", multi_scale_ffn(part(p, "mlp"), group_norm(p, "norm2", x), training))


def table_for(table: Tensor, size: tuple[int, int], sr: int) -> Tensor:
    """The table of a stage, resized bicubically as an image of queries by keys to those of the map."""
    queries, keys = size[0] * size[1], -(-size[0] // sr) * -(-size[1] // sr)
    if table.shape[2:] == (queries, keys):
        return table
    return F.interpolate(table, (queries, keys), mode="bicubic", align_corners=False)


def features(state: State, x: Tensor, training: bool = False, sr_ratios=(8, 4, 2, 1)) -> list[Tensor]:
    """Feature maps of the four stages, (B, C, H, W)."""
    maps = []
    for stage in range(4):
        p = part(state, f"stages.{stage}")
        x = batch_norm(p, "downsample.norm", conv(p, "downsample.proj", x, stride=2 if stage else 4), training)
        table = table_for(p["position_bias.table"], tuple(x.shape[2:]), sr_ratios[stage])
        for number in sorted({int(name.split(".")[1]) for name in p if name.startswith("blocks.")}):
            x = block(part(p, f"blocks.{number}"), x, table, training)
        maps.append(x)
    return maps


def logits(state: State, x: Tensor, training: bool = False) -> Tensor:
    pooled = group_norm(state, "norm", features(state, x, training)[-1]).mean((2, 3), keepdim=True)
    return conv(state, "head.fc", pooled).flatten(1)
