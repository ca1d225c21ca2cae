"""Foveal and peripheral attention of a TransNeXt, as arrays: any block, any query, all heads.

Paper: Dai Shi, "TransNeXt: Robust Foveal Visual Perception for Vision Transformers", equations 10 to 12, appendix B and
figure 7. The network runs once and the input tokens of its attention layers are kept; each query after that costs one
layer at most (``WatchedAttention``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.explain.attention_layer import AttentionLayer
from foveal.explain.indexing import block_key, chosen_stages, query_position, refuse_optimised, strides_of
from foveal.explain.token_grid import token_at
from foveal.explain.watching import batch_of_one, run_to_stage
from foveal.models.layers.aggregated_attention import AggregatedAttention
from foveal.models.layers.cosine_attention import CosineAttention
from foveal.models.pyramid import Stage
from foveal.models.transnext import TransNeXt
from foveal.types import Size

FIGURE_7 = 2, -1  # the last block of the third stage: the deepest one of every variant that has both paths


@dataclass(frozen=True)
class AttentionMaps:
    """Attention of one query, per head. All arrays are float32 and dimensionless.

    A block in which all tokens attend to all (the last stage of most variants) has no window: its keys count as
    peripheral, the pooled map is the map itself, both similarities are the same, the arrays of the window have side 0,
    and the foveal share is 0.

    Attributes:
        query: (row, column) of the query on the H x W token map.
        foveal: (heads, H, W), q_i . K-hat_j for every fine key j of the map, inside the query's window or not.
        peripheral: (heads, Hp, Wp), q_i . K-hat_p for every pooled key p.
        window_weights: (heads, k, k), softmax weights of the window around the query; 0 outside the map.
        pooled_weights: (heads, Hp, Wp), softmax weights of the pooled keys. Per head, both together sum to 1.
        positional: (heads, k, k), positional attention Q-hat . T + b (equation 12): it is added to ``window_weights``
            after the softmax, so it is signed and no part of the sum of 1; 0 outside the map.
        stage, block: where it was taken, counted from 0: ``net.stages[stage].blocks[block]``.
        stride: pixels of the image from one token to the next.
        image_size: (height, width) of the image in pixels.
    """

    query: tuple[int, int]
    foveal: np.ndarray
    peripheral: np.ndarray
    window_weights: np.ndarray
    pooled_weights: np.ndarray
    positional: np.ndarray
    stage: int
    block: int
    stride: int
    image_size: Size

    @property
    def heads(self) -> int:
        return self.foveal.shape[0]

    @property
    def size(self) -> Size:
        """(H, W) of the token map."""
        return self.foveal.shape[1], self.foveal.shape[2]

    @property
    def window(self) -> int:
        """Side of the window in tokens; 0 without one."""
        return self.window_weights.shape[1]

    @property
    def foveal_share(self) -> np.ndarray:
        """(heads,), share of the attention inside the window, between 0 and 1."""
        return self.window_weights.sum(axis=(1, 2))


class WatchedAttention:
    """The attention layers of a TransNeXt on one image, after one run of the network; made by ``watch_attention``.

    ``of`` does not run the network: it recomputes one layer from its kept input tokens, and keeps the projections of
    each stage's last layer for the next query. The network must keep its weights and device meanwhile. Several threads
    may ask at once.

    Attributes:
        image_size: (height, width) of the image in pixels.
        blocks: (stage, block) of every layer that was watched, in the order of the network.
    """

    def __init__(
        self,
        layers: dict[tuple[int, int], tuple[CosineAttention, Tensor]],
        strides: list[int],
        image_size: Size,
    ):
        self.image_size = image_size
        self.blocks = tuple(layers)
        self._layers = layers
        self._strides = strides
        self._last: dict[int, tuple[int, AttentionLayer]] = {}  # stage -> block and its projections

    def of(self, stage: int, block: int = -1, query: tuple[int, int] | None = None) -> AttentionMaps:
        """Return the attention of one query.

        The similarities are ``q_i . K-hat``, where q_i = (Q-hat_i + QE) * softplus(tau) * log(n_i) is the scaled query
        of the operator. Position biases enter only the weights: a picture of similarities should show the image, not
        the bias.

        Args:
            stage, block: counted from 0, as in ``net.stages[stage].blocks[block]``; negative ones count from the end.
            query: (row, column) on the stage's token map; None takes the centre.

        Raises:
            FovealError: no such block was watched, or the query lies outside the map.
        """
        stage, block = self._key(stage, block)
        layer = self.layer(stage, block)
        row, column = query_position(query, layer.size)
        weights = layer.weights(torch.tensor([row]), torch.tensor([column]))
        foveal, peripheral = layer.similarities(weights.scaled[0])
        window = (layer.heads, layer.window, layer.window)
        return AttentionMaps(
            query=(row, column),
            foveal=_array(foveal),
            peripheral=_array(peripheral),
            window_weights=_array(weights.window[0].view(window)),
            pooled_weights=_array(weights.pooled[0].view_as(peripheral)),
            positional=_array(weights.positional[0].view(window)),
            stage=stage,
            block=block,
            stride=self.stride(stage),
            image_size=self.image_size,
        )

    def layer(self, stage: int, block: int = -1) -> AttentionLayer:
        """Return one layer's projections on the image; those of the last layer asked for in each stage are kept."""
        key = self._key(stage, block)
        last = self._last.get(key[0])
        if last is not None and last[0] == key[1]:
            return last[1]
        layer = AttentionLayer(*self._layers[key])
        self._last[key[0]] = key[1], layer
        return layer

    def stride(self, stage: int) -> int:
        """Return the number of pixels from one token of a stage to the next."""
        return self._strides[self._key(stage, -1)[0]]

    def query_at(self, stage: int, pixel: tuple[int, int]) -> tuple[int, int]:
        """Return (row, column) of the stage's token nearest to a pixel (row, column) of the image."""
        key = self._key(stage, -1)
        tokens = self._layers[key][1]
        return token_at(pixel, self._strides[key[0]], (tokens.shape[1], tokens.shape[2]))

    def _key(self, stage: int, block: int) -> tuple[int, int]:
        return block_key(self.blocks, len(self._strides), stage, block)


@torch.no_grad()
def watch_attention(net: nn.Module, image: Tensor, stages: Sequence[int] | None = None) -> WatchedAttention:
    """Run a TransNeXt once on an image, and keep what its attention layers saw.

    Args:
        net: a TransNeXt, in any dtype and with any operators. Its mode and hooks are restored when the call returns or
            raises. Calls on the same network must not overlap: threads share its mode.
        image: (3, H, W) or (1, 3, H, W) floating point, normalised for the network; both sides at least 32 pixels.
        stages: the stages to watch, counted from 0; None takes all. Later stages do not run.

    Raises:
        FovealError: the network is not a TransNeXt or was folded for inference, there is no such stage, or the image
            has another shape.
    """
    net = _transnext(net)
    chosen = chosen_stages(net, stages)
    batch = batch_of_one(net, image, net.in_chans)
    tokens: dict[tuple[int, int], Tensor] = {}
    layers = dict(_attention_layers(net, chosen))
    run_to_stage(net, batch, chosen[-1], {layer: partial(_keep, tokens, key) for key, layer in layers.items()})
    watched = {key: (attention, tokens[key]) for key, attention in layers.items()}
    return WatchedAttention(watched, strides_of(net), (batch.shape[2], batch.shape[3]))


def foveal_peripheral_attention(net: nn.Module, image: Tensor, query: tuple[int, int] | None = None) -> AttentionMaps:
    """Return the attention of one query in the last block of stage 3, on both paths (figure 7 of the paper).

    It is ``watch_attention(net, image, [2]).of(2, -1, query)``: call these for another block, or for many queries.

    Args:
        net: a TransNeXt.
        image: (3, H, W) or (1, 3, H, W) floating point, normalised for the network; both sides at least 32 pixels.
        query: (row, column) on the token map of stage 3 (stride 16, rounded up); None takes the centre.

    Raises:
        FovealError: the network is not a TransNeXt or was folded for inference, its stage 3 is missing or has one path
            only, the image has another shape, or the query lies outside the map.
    """
    net = _transnext(net)
    stage, block = FIGURE_7
    if len(net.stages) <= stage:
        raise FovealError(
            "The attention is taken from stage 3, and this TransNeXt ends before it: use the whole network."
        )
    blocks = cast(Stage, net.stages[stage]).blocks
    if not isinstance(blocks[block].attn, AggregatedAttention):
        raise FovealError("Stage 3 of this TransNeXt has no aggregated attention: use a variant that has it there.")
    return watch_attention(net, image, [stage]).of(stage, block, query)


def _transnext(net: nn.Module) -> TransNeXt:
    if not isinstance(net, TransNeXt):
        raise FovealError(
            f"Only TransNeXt has foveal and peripheral attention, and this is a {type(net).__name__}: "
            "use a transnext_* model."
        )
    refuse_optimised(net)
    return net


def _attention_layers(net: TransNeXt, stages: Sequence[int]) -> Iterator[tuple[tuple[int, int], CosineAttention]]:
    for stage in stages:
        for block, module in enumerate(cast(Stage, net.stages[stage]).blocks):
            yield (stage, block), cast(CosineAttention, module.attn)


def _keep(tokens: dict[tuple[int, int], Tensor], key: tuple[int, int], _: nn.Module, args: tuple) -> None:
    tokens[key] = args[0]


def _array(x: Tensor) -> np.ndarray:
    return x.float().cpu().numpy()
