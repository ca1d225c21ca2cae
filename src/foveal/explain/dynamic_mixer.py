"""What TransXNet's dual dynamic token mixer does with one image, as arrays: any block.

Paper: Lou, Zhang, Zhou, Yang, Wu, Yu, "TransXNet: Learning Both Global and Local Dynamics with a Dual Dynamic Token
Mixer for Visual Recognition", section III-B, equations 2 to 5. The network runs once and the mixers' inputs are kept; a
question after that costs one mixer at most (``WatchedMixers``).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.explain.indexing import block_key, chosen_stages, query_position, refuse_optimised, strides_of
from foveal.explain.token_grid import spread_over_pixels, token_at
from foveal.explain.watching import batch_of_one, evaluating, run_to_stage
from foveal.models.layers.d_mixer import DMixer
from foveal.models.layers.depthwise import ConvNorm
from foveal.models.layers.idconv import IDConv
from foveal.models.layers.osra import OSRA
from foveal.models.pyramid import Stage
from foveal.models.transxnet import TokenBlock, TransXNet
from foveal.ops.numerics import accumulation_dtype, without_autocast
from foveal.types import Size


@dataclass(frozen=True)
class DynamicKernels:
    """IDConv's kernels for one image (equation 3): learned kernels, mixed by a softmax over groups. All are float32.

    C is the number of channels of the branch, half of the block's by default; K is 7.

    Attributes:
        kernels: (C, K, K), the depthwise kernels that the image got: the group weights times the learned kernels.
        biases: (C,), mixed likewise.
        group_weights: (groups, C, K, K), softmax weights of the learned kernels at each position; they sum to 1 over
            groups.
        bias_weights: (groups, C), the same for the biases.
        stage, block: counted from 0: ``net.stages[stage].blocks[block]``.
    """

    kernels: np.ndarray
    biases: np.ndarray
    group_weights: np.ndarray
    bias_weights: np.ndarray
    stage: int
    block: int


@dataclass(frozen=True)
class ReducedAttention:
    """OSRA's attention of one query (equation 4), per head. All arrays are float32.

    Attributes:
        query: (row, column) of the query on the stage's H x W map.
        weights: (heads, Hp, Wp), softmax weights of the keys of the reduced map, position table included; sum to 1.
        position: (heads, Hp, Wp), the position table's part of the logits.
        stage, block: counted from 0: ``net.stages[stage].blocks[block]``.
        stride: pixels of the image from one position of the query map to the next.
        reduction: positions of the query map from one key to the next (1 in the last stage).
        image_size: (height, width) of the image in pixels.
    """

    query: tuple[int, int]
    weights: np.ndarray
    position: np.ndarray
    stage: int
    block: int
    stride: int
    reduction: int
    image_size: Size

    def on_image(self) -> np.ndarray:
        """Return the attention that each pixel gets, (heads, height, width) float32; sums to 1 per head.

        The strided convolution overlaps and is centred like patch embedding, so a key stands for the pixels nearest to
        its centre, as a token does (``token_grid``).
        """
        return spread_over_pixels(self.weights, self.stride * self.reduction, self.image_size)


@dataclass(frozen=True)
class BranchEnergy:
    """How strongly the parts of a mixer answer: the mean square over channels of their maps, (H, W) float32 each.

    Attributes:
        local: the output of IDConv, on the first channels (half of them by default).
        distant: the output of OSRA, on the others.
        enhanced: both, after the squeezed token enhancer with its residual addition (equation 5), before layer scale.
        stage, block: counted from 0: ``net.stages[stage].blocks[block]``.
        stride: pixels of the image from one position to the next.
        image_size: (height, width) of the image in pixels.
    """

    local: np.ndarray
    distant: np.ndarray
    enhanced: np.ndarray
    stage: int
    block: int
    stride: int
    image_size: Size


@dataclass(frozen=True)
class _MixerInput:
    """A mixer with the (1, C, H, W) map and the position bias (1, heads, H*W, keys) that it saw."""

    mixer: DMixer
    x: Tensor
    bias: Tensor

    @property
    def parts(self) -> tuple[Tensor, Tensor]:
        local, distant = self.x.split(self.mixer.dims, dim=1)
        return local, distant


class WatchedMixers:
    """The token mixers of a TransXNet on one image, after one run of the network; made by ``watch_mixers``.

    Its methods recompute one mixer from its kept input, and never run the network, which must keep its weights and
    device meanwhile. Several threads may ask at once. ``stage`` and ``block`` are counted from 0, as in
    ``net.stages[stage].blocks[block]``; negative ones count from the end. All raise FovealError for a block that was
    not watched.

    Attributes:
        image_size: (height, width) of the image in pixels.
        blocks: (stage, block) of every mixer that was watched, in the order of the network.
    """

    def __init__(self, inputs: dict[tuple[int, int], _MixerInput], strides: list[int], image_size: Size):
        self.image_size = image_size
        self.blocks = tuple(inputs)
        self._inputs = inputs
        self._strides = strides

    @torch.no_grad()
    def kernels(self, stage: int, block: int = -1) -> DynamicKernels:
        """Return the kernels that IDConv convolves this image with.

        Raises:
            FovealError: the network was created with another ``local_mixer``.
        """
        key, seen = self._find(stage, block)
        conv = seen.mixer.local_unit
        if not isinstance(conv, IDConv):
            raise FovealError(f"Only IDConv mixes kernels, and this D-Mixer has a {type(conv).__name__} in its place.")
        with _recomputing(conv, seen.x.device):
            of_kernels = _group_weights(conv, seen.parts[0], conv.kernel)
            of_biases = _group_weights(conv, seen.parts[0], 1)[..., 0, 0]
            kernels = (of_kernels * conv.weight).sum(0)
            biases = (of_biases * conv.bias).sum(0)
        return DynamicKernels(_array(kernels), _array(biases), _array(of_kernels), _array(of_biases), *key)

    @torch.no_grad()
    def attention(self, stage: int, block: int = -1, query: tuple[int, int] | None = None) -> ReducedAttention:
        """Return OSRA's attention of one query.

        Args:
            query: (row, column) on the stage's map; None takes the centre.

        Raises:
            FovealError: the query lies outside the map.
        """
        key, seen = self._find(stage, block)
        size = (seen.x.shape[2], seen.x.shape[3])
        row, column = query_position(query, size)
        unit = seen.mixer.global_unit
        with _recomputing(unit, seen.x.device):
            logits, position = _logits(unit, seen.parts[1], seen.bias, row, column)
        return ReducedAttention(
            query=(row, column),
            weights=_array(logits.flatten(1).softmax(1).view_as(logits)),
            position=_array(position),
            stage=key[0],
            block=key[1],
            stride=self._strides[key[0]],
            reduction=_reduction(unit),
            image_size=self.image_size,
        )

    @torch.no_grad()
    def energies(self, stage: int, block: int = -1) -> BranchEnergy:
        """Return how strongly each branch, and the whole mixer, answers at each position."""
        key, seen = self._find(stage, block)
        mixer, (local, distant) = seen.mixer, seen.parts
        with _recomputing(mixer, seen.x.device):
            maps = mixer.local_unit(local), mixer.global_unit(distant, seen.bias), mixer(seen.x, seen.bias)
            local, distant, enhanced = (m[0].to(accumulation_dtype(m.dtype)).square().mean(0) for m in maps)
        arrays = _array(local), _array(distant), _array(enhanced)
        return BranchEnergy(*arrays, *key, self._strides[key[0]], self.image_size)

    def query_at(self, stage: int, pixel: tuple[int, int]) -> tuple[int, int]:
        """Return (row, column) of the position of a stage's map nearest to a pixel (row, column) of the image."""
        (stage, _), seen = self._find(stage, -1)
        return token_at(pixel, self._strides[stage], (seen.x.shape[2], seen.x.shape[3]))

    def _find(self, stage: int, block: int) -> tuple[tuple[int, int], _MixerInput]:
        key = block_key(self.blocks, len(self._strides), stage, block)
        return key, self._inputs[key]


_ASKING = threading.Lock()  # modes belong to the modules, which other threads and images share


@contextmanager
def _recomputing(module: nn.Module, device: torch.device) -> Iterator[None]:
    with _ASKING, without_autocast(device), evaluating(module):
        yield


@torch.no_grad()
def watch_mixers(net: nn.Module, image: Tensor, stages: Sequence[int] | None = None) -> WatchedMixers:
    """Run a TransXNet once on an image, and keep what its token mixers saw.

    Args:
        net: a TransXNet, in any dtype and with any operators. Its mode and hooks are restored when the call returns or
            raises. Calls on the same network must not overlap: threads share its mode.
        image: (3, H, W) or (1, 3, H, W) floating point, normalised for the network; both sides at least 32 pixels.
        stages: the stages to watch, counted from 0; None takes all. Later stages do not run.

    Raises:
        FovealError: the network is not a TransXNet, has no D-Mixers or was folded for inference, there is no such
            stage, or the image has another shape.
    """
    if not isinstance(net, TransXNet):
        raise FovealError(
            f"Only TransXNet has dynamic token mixers, and this is a {type(net).__name__}: use a transxnet_* model."
        )
    refuse_optimised(net)
    if any(isinstance(module, TokenBlock) for module in net.modules()):
        raise FovealError("This TransXNet has another token_mixer than the D-Mixer, which watch_mixers needs.")
    chosen = chosen_stages(net, stages)
    batch = batch_of_one(net, image, net.in_chans)
    inputs: dict[tuple[int, int], _MixerInput] = {}
    hooks = {
        cast(nn.Module, module.token_mixer): partial(_keep, inputs, (stage, block))
        for stage in chosen
        for block, module in enumerate(cast(Stage, net.stages[stage]).blocks)
    }
    run_to_stage(net, batch, chosen[-1], hooks)
    return WatchedMixers(inputs, strides_of(net), (batch.shape[2], batch.shape[3]))


def _keep(inputs: dict[tuple[int, int], _MixerInput], key: tuple[int, int], mixer: nn.Module, args: tuple) -> None:
    inputs[key] = _MixerInput(cast(DMixer, mixer), args[0], args[1])


def _group_weights(conv: IDConv, x: Tensor, size: int) -> Tensor:
    """Return the softmax over groups of the pooled map, (groups, C, size, size), in float32 at least."""
    scores = conv.proj(F.adaptive_avg_pool2d(x, size)).unflatten(1, (conv.groups, -1))[0]
    return scores.to(accumulation_dtype(scores.dtype)).softmax(0)


def _logits(unit: OSRA, x: Tensor, bias: Tensor, row: int, column: int) -> tuple[Tensor, Tensor]:
    """Return the logits of one query, and the position table's part of them, (heads, Hp, Wp) in float32 at least."""
    k, _ = unit.kv(unit.local_conv(unit.sr(x))).chunk(2, dim=1)
    q = unit.q(x)[0, :, row, column].unflatten(0, (unit.heads, -1))
    k, dtype = k[0].unflatten(0, (unit.heads, -1)), accumulation_dtype(x.dtype)
    position = bias[0, :, row * x.shape[3] + column].to(dtype).unflatten(1, k.shape[2:])
    similarity = torch.einsum("hd,hdrc->hrc", q.to(dtype), k.to(dtype))
    return similarity * q.shape[1] ** -0.5 + position, position


def _reduction(unit: OSRA) -> int:
    return cast(ConvNorm, unit.sr[0]).conv.stride[0] if len(unit.sr) else 1


def _array(x: Tensor) -> np.ndarray:
    return x.float().cpu().numpy()
