"""Foveal and peripheral attention of a TransNeXt, as arrays.

Paper: Dai Shi, "TransNeXt: Robust Foveal Visual Perception for Vision Transformers", appendix B and figure 7. The
figure shows ONE query of the last block of the third stage: for each head, its similarity with every fine key of the
map (what the fovea would see there) and with every pooled key (what the periphery sees).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.explain.watching import batch_of_one, before, evaluating
from foveal.models.transnext import AggregatedAttention, TransNeXt

STAGE = 2  # the third stage: the deepest one of every variant that has both paths


@dataclass(frozen=True)
class AttentionMaps:
    """Attention of one query, per head. All arrays are float32 and dimensionless.

    Attributes:
        query: (row, column) of the query on the H x W token map.
        foveal: (heads, H, W), q_i . K-hat_j for every fine key j of the map, inside the query's window or not.
        peripheral: (heads, Hp, Wp), q_i . K-hat_p for every pooled key p.
        window_weights: (heads, k, k), softmax weights of the window around the query; 0 outside the map.
        pooled_weights: (heads, Hp, Wp), softmax weights of the pooled keys. Per head, both together sum to 1.
    """

    query: tuple[int, int]
    foveal: np.ndarray
    peripheral: np.ndarray
    window_weights: np.ndarray
    pooled_weights: np.ndarray

    @property
    def heads(self) -> int:
        return self.foveal.shape[0]

    @property
    def foveal_share(self) -> np.ndarray:
        """(heads,), share of the attention inside the window, between 0 and 1."""
        return self.window_weights.sum(axis=(1, 2))


@torch.no_grad()
def foveal_peripheral_attention(net: nn.Module, image: Tensor, query: tuple[int, int] | None = None) -> AttentionMaps:
    """Return the attention of one query in the last block of stage 3, on both paths (figure 7 of the paper).

    The similarities are ``q_i . K-hat``, where q_i = (Q-hat_i + QE) * softplus(tau) * log(n_i) is the scaled query of
    the operator. Position biases enter only the weights: a picture of similarities should show the image, not the bias.

    Args:
        net: a TransNeXt. Its mode (training or not) and hooks are restored when the call returns or raises.
        image: (3, H, W) or (1, 3, H, W) floating point, normalised for the network; both sides at least 32 pixels.
        query: (row, column) on the token map of stage 3 (stride 16, rounded up); None takes the centre.

    Raises:
        FovealError: the network is not a TransNeXt, the image has another shape, or the query lies outside the map.
    """
    net, attention = _with_attention(net)
    batch = batch_of_one(net, image, net.in_chans)
    with torch.autocast(batch.device.type, enabled=False):  # a caller's autocast would round the similarities
        tokens = _attention_input(net, attention, batch)
        row, column = _query_position(query, *tokens.shape[1:3])
        return _maps_of_query(attention, tokens, row, column)


def _with_attention(net: nn.Module) -> tuple[TransNeXt, AggregatedAttention]:
    if not isinstance(net, TransNeXt):
        raise FovealError(
            f"Only TransNeXt has foveal and peripheral attention, and this is a {type(net).__name__}: "
            "use a transnext_* model."
        )
    if len(net.stages) <= STAGE:
        raise FovealError(
            "The attention is taken from stage 3, and this TransNeXt ends before it: use the whole network."
        )
    stage: Any = net.stages[STAGE]
    attention = stage.blocks[-1].attn
    if not isinstance(attention, AggregatedAttention):
        raise FovealError("Stage 3 of this TransNeXt has no aggregated attention: use a variant that has it there.")
    return net, attention


def _attention_input(net: TransNeXt, attention: nn.Module, batch: Tensor) -> Tensor:
    """Return the (1, H, W, C) input of the attention in the last block of stage 3; stage 4 does not run."""
    seen: list[Tensor] = []
    with evaluating(net), before(attention, lambda _, args: seen.append(args[0])):
        net.forward_intermediates(batch, indices=[STAGE], stop_early=True, intermediates_only=True)
    return seen[0]


def _query_position(query: tuple[int, int] | None, height: int, width: int) -> tuple[int, int]:
    if query is None:
        return height // 2, width // 2
    row, column = query
    if not (0 <= row < height and 0 <= column < width):
        raise FovealError(
            f"The query ({row}, {column}) lies outside the token map of {height} x {width}: "
            f"give a row of 0..{height - 1} and a column of 0..{width - 1}."
        )
    return row, column


def _maps_of_query(attention: AggregatedAttention, tokens: Tensor, row: int, column: int) -> AttentionMaps:
    q, k, _ = attention.project(tokens)
    k_pool, _ = attention.pool(tokens)
    k_hat, k_pool_hat = _unit(k[0]), _unit(k_pool[0])
    size, side, cells = (k_hat.shape[0], k_hat.shape[1]), attention.window, k_pool_hat.shape[0] * k_pool_hat.shape[1]
    window, inside = _window(k_hat, row, column, side)
    keys = int(inside.sum()) + (attention.geometry.pooled_length(size) or cells)
    scaled = _scaled_query(attention, _unit(q[0, row, column]), keys)

    window_logits = torch.einsum("hd,rchd->hrc", scaled, window).flatten(1) + attention.relative_pos_bias_local.float()
    window_logits = window_logits.masked_fill(~inside.flatten(), float("-inf"))
    peripheral = torch.einsum("hd,rchd->hrc", scaled, k_pool_hat)
    bias = attention.position_bias(*size)[:, row * size[1] + column].float()
    weights = torch.cat((window_logits, peripheral.flatten(1) + bias), dim=1).softmax(dim=1)
    window_weights, pooled_weights = weights.split((side * side, cells), dim=1)
    return AttentionMaps(
        query=(row, column),
        foveal=_array(torch.einsum("hd,rchd->hrc", scaled, k_hat)),
        peripheral=_array(peripheral),
        window_weights=_array(window_weights.unflatten(1, (side, side))),
        pooled_weights=_array(pooled_weights.view_as(peripheral)),
    )


def _scaled_query(attention: AggregatedAttention, q_hat: Tensor, keys: int) -> Tensor:
    """Return (heads, d), step 4 of the operator: (Q-hat + QE) * softplus(tau) * log(n) for n keys."""
    embedded = q_hat + attention.query_embedding[:, 0].float()
    return embedded * attention.scale()[:, None] * math.log(keys)


def _window(keys: Tensor, row: int, column: int, side: int) -> tuple[Tensor, Tensor]:
    """Return the keys around a position, (side, side, heads, d), zero outside the map, and the mask of the inside."""
    half = side // 2
    padded = F.pad(keys, (0, 0, 0, 0, half, half, half, half))
    mask = F.pad(keys.new_ones(keys.shape[:2], dtype=torch.bool), (half, half, half, half))
    here = (slice(row, row + side), slice(column, column + side))
    return padded[here], mask[here]


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x.float(), dim=-1, eps=1e-12)


def _array(x: Tensor) -> np.ndarray:
    return x.float().cpu().numpy()
