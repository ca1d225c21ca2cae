"""TransXNet's blocks for inference, on tokens (B, H, W, C) throughout.

BatchNorm, layer scale and identity additions are folded into adjacent products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.ops import dynamic_dwconv, idconv, multiscale_dwconv, multiscale_ffn
from foveal.ops.aggregated_attention.standard_form import softmax
from foveal.ops.dynamic_dwconv.standard_form import convolve_samples
from foveal.ops.idconv.reference import mix, pool
from foveal.ops.modules import is_plain_module
from foveal.ops.multiscale_dwconv.standard_form import convolve, with_identity

from ..cache import SizeCache
from ..layers.d_mixer import DMixer
from ..layers.depthwise import ConvNorm, DepthwiseConv, SeparateCells, fill_cells
from ..layers.idconv import IDConv
from ..layers.layer_scale import LayerScale
from ..layers.multiscale_ffn import FFN_KERNELS, MultiScaleFFN
from ..layers.osra import OSRA
from ..transxnet import Block, PatchEmbed, TokenBlock
from .parts import (
    InferenceOnly,
    Layer,
    Weights,
    batch_norm_affine,
    cast,
    constant,
    scale_input,
    scale_output,
    takes_maps,
)


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


class FoldedSeparatePatches(FoldedPatchEmbed):
    """The same with patches that do not overlap."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, dim, ceil(H / s), ceil(W / s))."""
        return super().forward(fill_cells(x, self.stride[0]))


def fold_patch_embed(source: PatchEmbed, dtype: torch.dtype) -> FoldedPatchEmbed:
    """Return the patch embedding for inference."""
    kind = FoldedSeparatePatches if isinstance(source.proj, SeparateCells) else FoldedPatchEmbed
    return kind(source, dtype)


class FoldedIDConv(InferenceOnly):
    """Input-dependent depthwise convolution; one run of the two small layers mixes kernels and biases."""

    def __init__(self, source: IDConv, dtype: torch.dtype):
        super().__init__()
        self.kernel = source.kernel
        squeeze, expand = source.proj
        self.squeeze = Layer(*scale_output(squeeze.conv.weight.flatten(1), None, *batch_norm_affine(squeeze.bn)), dtype)
        self.expand = Layer.of(expand, dtype)
        kernels = source.weight.flatten(2).transpose(1, 2)  # (groups, K * K, C)
        self.learned = cast(torch.cat([kernels, source.bias[:, None]], 1), dtype)
        self._packed = SizeCache()

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        if is_plain_module(Layer, self.squeeze, self.expand):
            return idconv(
                x, self.squeeze.weight, self.squeeze.bias, self.expand.weight, self.expand.bias, self.learned,
                keep=self._packed.get,
            )  # fmt: skip
        return dynamic_dwconv(x, *self._mixed(x))

    def standard(self, x: Tensor) -> Tensor:
        """``forward`` on a map (B, C, H, W), for exported programs."""
        return convolve_samples(x, *self._mixed(x.permute(0, 2, 3, 1)))

    def _mixed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.expand(self.squeeze(pool(x, self.kernel), gelu=True))
        return mix(scores, self.learned)


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
            scale = _conv_norm(rescale, dtype)
            self.scale, self.shift = constant(scale.weight.flatten()), constant(scale.bias)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(B, H, W, C) and the stage's position bias (1, heads, H*W, keys) to (B, H, W, C)."""
        reduced, entry, channels = x, None, x.shape[-1]
        if self.reduce is not None:
            layer = self.reduce
            maps = x.permute(0, 3, 1, 2)
            reduced = F.conv2d(maps, layer.weight, layer.bias, self.stride, self.padding, groups=channels)
            reduced = reduced.permute(0, 2, 3, 1)
            # Kept apart from the convolution's weights: its zero padding comes after this shift.
            entry = self.scale, self.shift
        reduced = multiscale_dwconv(reduced, [self.local.weight], [self.local.bias], entry=entry)
        k, v = self.kv(reduced).chunk(2, dim=-1)
        q, k, v = (self._split_heads(t) for t in (self.q(x), k, v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return y.transpose(1, 2).flatten(2).unflatten(1, (x.shape[1], x.shape[2]))

    def _column(self, name: str) -> Tensor:
        (column,) = self.prepared(name, lambda: [self.get_parameter(name)[:, None, None].to(self.local.weight.dtype)])
        return column

    def standard(self, x: Tensor, bias: Tensor) -> Tensor:
        """``forward`` on maps (B, C, H, W), for exported programs: keys and values of few cells are turned around, not
        the queries and the result."""
        batch, channels, height, width = x.shape
        reduced, dim = x, channels // self.heads
        if self.reduce is not None:
            layer = self.reduce
            reduced = F.conv2d(x, layer.weight, layer.bias, self.stride, self.padding, groups=channels)
            reduced = F.gelu(reduced) * self._column("scale") + self._column("shift")
        reduced = convolve(reduced, self.local.weight, self.local.bias)
        maps = (self.q.map(x), *self.kv.maps(reduced, [channels] * 2))
        q, k, v = (y.reshape(batch, self.heads, dim, y.shape[2] * y.shape[3]) for y in maps)
        (bias,) = self.prepared("bias", lambda: [bias.to(q.dtype).mT], of_size=True)
        scores = torch.matmul((k * dim**-0.5).mT, q) + bias
        return torch.matmul(v, softmax(scores)).reshape(batch, channels, height, width)

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
        # Contiguous, for a convolution and a product would each copy it.
        y = torch.cat([self.local_unit(local), self.global_unit(distant.contiguous(), bias)], dim=-1)
        z = multiscale_dwconv(y, [self.local.weight], [self.local.bias], gelu=True)
        return self.expand(self.squeeze(z, gelu=True), add=torch.addcmul(residual, y, self.layer_scale))

    def standard(self, x: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
        """``forward`` on maps (B, C, H, W), for exported programs."""
        local, distant = x.chunk(2, dim=1)
        y = torch.cat([self.local_unit.standard(local), self.global_unit.standard(distant, bias)], dim=1)
        z = self.squeeze.map(F.gelu(convolve(y, self.local.weight, self.local.bias)))
        (scale,) = self.prepared("scale", lambda: [self.layer_scale[:, None, None]])
        return residual + y * scale + self.expand.map(F.gelu(z))


class FoldedFFN(InferenceOnly):
    """Multi-scale feed-forward network with the GroupNorm before it, and the layer scale and the residual addition
    after it."""

    def __init__(self, source: MultiScaleFFN, norm: nn.GroupNorm, layer_scale: LayerScale, dtype: torch.dtype):
        super().__init__()
        self.norm = norm.to(dtype)
        conv, _, entry = source.fc1
        self.fc1 = Layer(conv.weight.flatten(1), torch.zeros_like(entry.bias), dtype)
        scale, shift = batch_norm_affine(entry)
        # Not folded into the depthwise convolutions' weights: their zero padding comes after this shift.
        self.scale, self.shift = constant(scale), constant(shift)
        self.weights = nn.ParameterList(cast(conv.weight, dtype) for conv in source.dwconv.proj)
        self.biases = nn.ParameterList(cast(conv.bias, dtype) for conv in source.dwconv.proj)
        conv, leave = source.fc2
        folded = scale_input(conv.weight, conv.bias, *batch_norm_affine(source.norm))
        folded = scale_output(*folded, *batch_norm_affine(leave))
        self.fc2 = Layer(*scale_output(*folded, layer_scale.weight.flatten(), layer_scale.bias), dtype)
        self._packed = SizeCache()

    def forward(self, x: Tensor) -> Tensor:
        """x + layer scale of the network of the normalised x; (B, H, W, C)."""
        weights, biases = list(self.weights), list(self.biases)
        if not is_plain_module(Layer, self.fc1, self.fc2) or not is_plain_module(nn.GroupNorm, self.norm):
            hidden = self.fc1(_group_norm(self.norm, x))
            hidden = multiscale_dwconv(
                hidden, weights, biases, entry=(self.scale, self.shift), identity=True, gelu=True
            )
            return self.fc2(hidden, add=x)
        return multiscale_ffn(
            x, self.norm.weight, self.norm.bias, self.fc1.weight, self.scale, self.shift, weights, biases,
            self.fc2.weight, self.fc2.bias, eps=self.norm.eps, keep=self._packed.get,
        )  # fmt: skip

    def standard(self, x: Tensor) -> Tensor:
        """``forward`` on a map (B, C, H, W), for exported programs: a branch for every group of hidden channels."""
        sizes = [len(weight) for weight in self.weights]
        dtype = self.weights[0].dtype
        scales = self.prepared("scale", lambda: self.scale[:, None, None].to(dtype).split(sizes))
        shifts = self.prepared("shift", lambda: self.shift[:, None, None].to(dtype).split(sizes))
        kernels = self.prepared("kernels", lambda: [with_identity(weight) for weight in self.weights])
        branches = []
        parts = zip(self.fc1.maps(self.norm(x), sizes), scales, shifts, kernels, self.biases, strict=True)
        for hidden, scale, shift, kernel, bias in parts:
            branches.append(F.gelu(convolve(F.gelu(hidden) * scale + shift, kernel, bias)))
        return x + self.fc2.map(torch.cat(branches, 1))


class FoldedBlock(InferenceOnly):
    """Dynamic position encoding, D-Mixer, multi-scale FFN."""

    def __init__(self, source: Block, dtype: torch.dtype):
        super().__init__()
        self.pos_embed = Weights(source.pos_embed.weight, source.pos_embed.bias, dtype)
        self.norm1 = source.norm1.to(dtype)
        self.token_mixer = FoldedDMixer(source.token_mixer, source.layer_scale_1, dtype)
        self.mlp = FoldedFFN(source.mlp, source.norm2, source.layer_scale_2, dtype)
        self.eval()

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(B, C, H, W) and the stage's position bias to (B, C, H, W); tokens in between."""
        mixer, mlp = self.token_mixer, self.mlp
        attention = mixer.global_unit
        if takes_maps(mixer.squeeze, mixer.expand, attention.q, attention.kv, mlp.fc1, mlp.fc2):
            (kernel,) = self.prepared("kernel", lambda: [with_identity(self.pos_embed.weight)])
            x = convolve(x, kernel, self.pos_embed.bias)
            return mlp.standard(mixer.standard(self.norm1(x), bias, x))
        x = x.permute(0, 2, 3, 1)
        x = multiscale_dwconv(x, [self.pos_embed.weight], [self.pos_embed.bias], identity=True)
        x = mlp(mixer(_group_norm(self.norm1, x), bias, x))
        return x.permute(0, 3, 1, 2)


class PlainBlock(InferenceOnly):
    """A block of an ablation by its own layers, which have no folded form."""

    def __init__(self, source: Block | TokenBlock, dtype: torch.dtype):
        super().__init__()
        self.block = source.to(dtype).requires_grad_(False)
        self.eval()

    def forward(self, x: Tensor, *bias: Tensor) -> Tensor:
        """(B, C, H, W), and the stage's position bias if it has one, to (B, C, H, W)."""
        y: Tensor = self.block(x, *bias)
        return y


def fold_block(source: Block, dtype: torch.dtype) -> FoldedBlock | PlainBlock:
    """Return the block for inference."""
    mixer: Any = source.token_mixer
    local, distant = mixer.dims
    overlaps = all(isinstance(layer.conv, DepthwiseConv) for layer in mixer.global_unit.sr)
    standard = overlaps and local == distant and mixer.enhances and isinstance(mixer.local_unit, IDConv)
    standard = standard and isinstance(source.mlp, MultiScaleFFN) and source.mlp.kernels == FFN_KERNELS
    standard = standard and isinstance(source.pos_embed, DepthwiseConv) and isinstance(source.layer_scale_1, LayerScale)
    return FoldedBlock(source, dtype) if standard else PlainBlock(source, dtype)


def _group_norm(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """GroupNorm of tokens (B, H, W, C)."""
    return norm(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _conv_norm(source: ConvNorm, dtype: torch.dtype) -> Weights:
    return Weights(*scale_output(source.conv.weight, source.conv.bias, *batch_norm_affine(source.bn)), dtype)


FOLDS: dict[type[nn.Module], Callable[..., nn.Module]] = {
    Block: fold_block,
    TokenBlock: PlainBlock,
    PatchEmbed: fold_patch_embed,
}
