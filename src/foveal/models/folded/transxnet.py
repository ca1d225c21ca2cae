"""TransXNet's blocks for inference, on tokens (B, H, W, C) throughout.

BatchNorm, layer scale and identity additions are folded into adjacent products.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.ops import dynamic_dwconv, multiscale_dwconv

from ..transxnet import OSRA, Block, ConvNorm, DMixer, IDConv, LayerScale, MultiScaleFFN, PatchEmbed
from .parts import InferenceOnly, Layer, Weights, batch_norm_affine, cast, constant, scale_input, scale_output


class FoldedPatchEmbed(InferenceOnly):
    """Strided convolution with its BatchNorm folded in."""

    def __init__(self, source: PatchEmbed, dtype: torch.dtype):
        super().__init__()
        self.stride, self.padding = source.proj.stride, source.proj.padding
        folded = scale_output(source.proj.weight, source.proj.bias, *batch_norm_affine(source.norm))
        self.layer = Weights(*folded, dtype)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, dim, ceil(H / s), ceil(W / s))."""
        return F.conv2d(x, self.layer.weight, self.layer.bias, self.stride, self.padding)


class FoldedIDConv(InferenceOnly):
    """Input-dependent depthwise convolution; one run of the two small layers mixes kernels and biases."""

    def __init__(self, source: IDConv, dtype: torch.dtype):
        super().__init__()
        self.groups, self.kernel = source.groups, source.kernel
        squeeze, expand = source.proj
        self.squeeze = Layer(*scale_output(squeeze.conv.weight.flatten(1), None, *batch_norm_affine(squeeze.bn)), dtype)
        self.expand = Layer.of(expand, dtype)
        kernels = source.weight.flatten(2).transpose(1, 2)  # (groups, K * K, C)
        self.learned = cast(torch.cat([kernels, source.bias[:, None]], 1), dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        maps = x.permute(0, 3, 1, 2)
        cells = F.adaptive_avg_pool2d(maps, self.kernel).flatten(2)
        everywhere = F.adaptive_avg_pool2d(maps, 1).flatten(2)
        pooled = torch.cat([cells, everywhere], 2).transpose(1, 2)  # (B, K * K + 1, C)
        scores = self.expand(self.squeeze(pooled, gelu=True)).unflatten(-1, (self.groups, -1))
        mixed = (scores.softmax(2) * self.learned.transpose(0, 1)).sum(2).transpose(1, 2)  # (B, C, K * K + 1)
        weight = mixed[..., :-1].unflatten(-1, (self.kernel, self.kernel))
        return dynamic_dwconv(x, weight, mixed[..., -1])


class FoldedOSRA(InferenceOnly):
    """Overlapping spatial-reduction attention with BatchNorms folded into the reducing convolutions."""

    def __init__(self, source: OSRA, dtype: torch.dtype):
        super().__init__()
        self.heads = source.heads
        self.q, self.kv = Layer.of(source.q, dtype), Layer.of(source.kv, dtype)
        kernel = source.local_conv.weight.clone()
        kernel[:, :, 1, 1] += 1  # the identity beside it
        self.local = Weights(kernel, source.local_conv.bias, dtype)
        self.reduce: Weights | None = None
        self.stride = self.padding = (1, 1)
        if len(source.sr):
            reduce, rescale = source.sr
            self.stride, self.padding = reduce.conv.stride, reduce.conv.padding
            self.reduce = _conv_norm(reduce, dtype)
            self.rescale = _conv_norm(rescale, dtype)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(B, H, W, C) and the stage's position bias (1, heads, H*W, keys) to (B, H, W, C)."""
        reduced = x.permute(0, 3, 1, 2)
        channels = x.shape[-1]
        if self.reduce is not None:
            layer = self.reduce
            reduced = F.gelu(F.conv2d(reduced, layer.weight, layer.bias, self.stride, self.padding, groups=channels))
            # Kept apart from the next convolution: its zero padding comes after this shift.
            reduced = torch.addcmul(
                self.rescale.bias[:, None, None], reduced, self.rescale.weight.flatten(1)[..., None]
            )
        reduced = F.conv2d(reduced, self.local.weight, self.local.bias, padding=1, groups=channels)
        k, v = self.kv(reduced.permute(0, 2, 3, 1)).chunk(2, dim=-1)
        q, k, v = (self._split_heads(t) for t in (self.q(x), k, v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return y.transpose(1, 2).flatten(2).unflatten(1, (x.shape[1], x.shape[2]))

    def _split_heads(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, heads, H*W, C / heads)."""
        return x.flatten(1, 2).unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FoldedDMixer(InferenceOnly):
    """Dual dynamic token mixer with the layer scale and the residual addition after it."""

    def __init__(self, source: DMixer, layer_scale: LayerScale, dtype: torch.dtype):
        super().__init__()
        self.local_unit = FoldedIDConv(source.local_unit, dtype)
        self.global_unit = FoldedOSRA(source.global_unit, dtype)
        local, _, norm1, squeeze, _, norm2, expand, norm3 = source.proj
        self.local = Weights(local.weight, local.bias, dtype)
        self.squeeze = Layer(*scale_input(squeeze.weight, squeeze.bias, *batch_norm_affine(norm1)), dtype)
        folded = scale_input(expand.weight, expand.bias, *batch_norm_affine(norm2))
        folded = scale_output(*folded, *batch_norm_affine(norm3))
        self.expand = Layer(*scale_output(*folded, layer_scale.weight.flatten(), layer_scale.bias), dtype)
        self.layer_scale = cast(layer_scale.weight.flatten(), dtype)

    def forward(self, x: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
        """residual + layer scale of the mixed x; all (B, H, W, C)."""
        local, distant = x.chunk(2, dim=-1)
        y = torch.cat([self.local_unit(local), self.global_unit(distant, bias)], dim=-1)
        z = multiscale_dwconv(y, [self.local.weight], [self.local.bias], gelu=True)
        return self.expand(self.squeeze(z, gelu=True), add=torch.addcmul(residual, y, self.layer_scale))


class FoldedFFN(InferenceOnly):
    """Multi-scale feed-forward network with the layer scale and the residual addition after it."""

    def __init__(self, source: MultiScaleFFN, layer_scale: LayerScale, dtype: torch.dtype):
        super().__init__()
        conv, _, norm = source.fc1
        self.fc1 = Layer(conv.weight.flatten(1), torch.zeros_like(norm.bias), dtype)
        scale, shift = batch_norm_affine(norm)
        self.scale, self.shift = constant(scale), constant(shift)
        self.weights = nn.ParameterList(cast(conv.weight, dtype) for conv in source.dwconv.proj)
        self.biases = nn.ParameterList(cast(conv.bias, dtype) for conv in source.dwconv.proj)
        conv, norm = source.fc2
        folded = scale_input(conv.weight, conv.bias, *batch_norm_affine(source.norm))
        folded = scale_output(*folded, *batch_norm_affine(norm))
        self.fc2 = Layer(*scale_output(*folded, layer_scale.weight.flatten(), layer_scale.bias), dtype)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """residual + layer scale of the network of x; all (B, H, W, C)."""
        # GELU and BatchNorm come before zero padding, so they cannot be folded into the convolution's weights.
        y = multiscale_dwconv(
            self.fc1(x), list(self.weights), list(self.biases),
            entry=(self.scale, self.shift), identity=True, gelu=True,
        )  # fmt: skip
        return self.fc2(y, add=residual)


class FoldedBlock(InferenceOnly):
    """Dynamic position encoding, D-Mixer, multi-scale FFN."""

    def __init__(self, source: Block, dtype: torch.dtype):
        super().__init__()
        self.pos_embed = Weights(source.pos_embed.weight, source.pos_embed.bias, dtype)
        self.norm1, self.norm2 = source.norm1.to(dtype), source.norm2.to(dtype)
        self.token_mixer = FoldedDMixer(source.token_mixer, source.layer_scale_1, dtype)
        self.mlp = FoldedFFN(source.mlp, source.layer_scale_2, dtype)
        self.eval()

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(B, C, H, W) and the stage's position bias to (B, C, H, W); tokens in between."""
        x = x.permute(0, 2, 3, 1)
        x = multiscale_dwconv(x, [self.pos_embed.weight], [self.pos_embed.bias], identity=True)
        x = self.token_mixer(_group_norm(self.norm1, x), bias, x)
        x = self.mlp(_group_norm(self.norm2, x), x)
        return x.permute(0, 3, 1, 2)


def _group_norm(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """GroupNorm of tokens (B, H, W, C)."""
    return norm(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _conv_norm(source: ConvNorm, dtype: torch.dtype) -> Weights:
    return Weights(*scale_output(source.conv.weight, source.conv.bias, *batch_norm_affine(source.bn)), dtype)


FOLDS: dict[type[nn.Module], Callable[..., nn.Module]] = {
    Block: FoldedBlock,
    PatchEmbed: FoldedPatchEmbed,
}
