"""TransXNet: a dual dynamic token mixer of input-dependent depthwise convolution and spatial-reduction attention.

Lou, Zhang, Zhou, Yang, Wu, Yu, "TransXNet: Learning Both Global and Local Dynamics with a Dual Dynamic Token Mixer for
Visual Recognition", arXiv:2310.19380. Equation and section numbers below are that paper's. The networks reproduce the
released weights' outputs; ``checkpoint_filter_fn`` reads the released files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath, calculate_drop_path_rates, get_device_dtype, to_2tuple
from timm.models import generate_default_cfgs, register_model, register_notrace_module
from timm.models._builder import resolve_pretrained_cfg
from timm.models._input import update_model_input_size
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true

from foveal.ops import dynamic_dwconv, multiscale_dwconv
from foveal.ops.batch_norm import depthwise_block, fuses, in_training
from foveal.ops.host import is_plain, needs_gradient, observed
from foveal.ops.modules import is_plain_module, is_plain_sequence
from foveal.ops.numerics import without_autocast
from foveal.types import Size

from .cache import SizeCache
from .loading import prepare_state_dict
from .pyramid import PointwiseConv, Pyramid, Stage, trunc_normal_
from .registration import build_backbone, classification_cfg
from .sizes import ceil_div, stage_sizes

_LAYER_SCALE = 1e-5  # at the start
_DYNAMIC_KERNEL = 7
_FFN_KERNELS = (1, 3, 5, 7)


@register_notrace_module
class DepthwiseConv(nn.Conv2d):
    """Depthwise convolution with padding kernel // 2, and optionally the addition of its input and GELU."""

    def __init__(
        self, dim: int, kernel: int, stride: int = 1, bias: bool = True,
        identity: bool = False, gelu: bool = False, **dd: Any,
    ):  # fmt: skip
        super().__init__(dim, dim, kernel, stride, kernel // 2, groups=dim, bias=bias, **dd)
        self.identity, self.gelu = identity, gelu

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H / stride, W / stride), rounded up."""
        if self.stride != (1, 1):
            return super().forward(x)
        biases = None if self.bias is None else [self.bias]
        y = multiscale_dwconv(x.permute(0, 2, 3, 1), [self.weight], biases, identity=self.identity, gelu=self.gelu)
        return y.permute(0, 3, 1, 2)


def group_norm(dim: int, **dd: Any) -> nn.GroupNorm:
    """Return a GroupNorm with one group: mean and variance over channels and positions together."""
    return nn.GroupNorm(1, dim, **dd)


class ConvNorm(nn.Module):
    """Convolution without bias, BatchNorm, and optionally an activation."""

    def __init__(self, conv: nn.Conv2d, act: bool, **dd: Any):
        super().__init__()
        self.conv = conv
        self.bn = nn.BatchNorm2d(conv.out_channels, **dd)
        self.act = nn.GELU() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class PatchEmbed(nn.Module):
    """Strided convolution and BatchNorm."""

    def __init__(self, in_chans: int, dim: int, kernel: int, stride: int, device=None, dtype=None):
        super().__init__()
        dd = dict(device=device, dtype=dtype)
        self.proj = nn.Conv2d(in_chans, dim, kernel, stride, kernel // 2, bias=False, **dd)
        self.norm = nn.BatchNorm2d(dim, **dd)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x))


@register_notrace_module
class IDConv(nn.Module):
    """Input-dependent depthwise convolution, which mixes ``groups`` learned kernels per sample and channel.

    Section III-B1, equation 3. The bias is mixed by the same two layers from the global average, so in training their
    BatchNorm sees two batches per step.
    """

    def __init__(self, dim: int, groups: int, kernel: int = _DYNAMIC_KERNEL, reduction: int = 4, **dd: Any):
        super().__init__()
        self.groups = groups
        self.kernel = kernel
        self.weight = nn.Parameter(torch.empty(groups, dim, kernel, kernel, **dd))
        self.bias = nn.Parameter(torch.empty(groups, dim, **dd))
        narrow = dim // reduction
        squeeze, widen = PointwiseConv(dim, narrow, bias=False, **dd), PointwiseConv(narrow, dim * groups, **dd)
        self.proj = nn.Sequential(ConvNorm(squeeze, act=True, **dd), widen)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the kernels to be mixed."""
        trunc_normal_(self.weight, std=0.02)
        trunc_normal_(self.bias, std=0.02)

    def _mix(self, x: Tensor, size: int, learned: Tensor) -> Tensor:
        """Return the learned (groups, C, size, size), weighted by a softmax over groups of the pooled map.

        Returns:
            (B, C, size, size).
        """
        scores = self.proj(F.adaptive_avg_pool2d(x, size)).unflatten(1, (self.groups, -1))
        return (scores.softmax(1) * learned).sum(1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        weight = self._mix(x, self.kernel, self.weight)
        bias = self._mix(x, 1, self.bias[..., None, None]).flatten(1)
        return dynamic_dwconv(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


@register_notrace_module
class OSRA(nn.Module):
    """Overlapping spatial-reduction attention (section III-B2, equation 4)."""

    def __init__(self, dim: int, heads: int, sr_ratio: int, attn_drop: float = 0.0, **dd: Any):
        super().__init__()
        self.heads = heads
        self.attn_drop = attn_drop
        self.q = PointwiseConv(dim, dim, **dd)
        self.kv = PointwiseConv(dim, 2 * dim, **dd)
        self.sr = nn.Sequential()
        if sr_ratio > 1:
            self.sr.append(ConvNorm(DepthwiseConv(dim, sr_ratio + 3, sr_ratio, bias=False, **dd), act=True, **dd))
            self.sr.append(ConvNorm(DepthwiseConv(dim, 1, bias=False, **dd), act=False, **dd))
        self.local_conv = DepthwiseConv(dim, 3, identity=True, **dd)

    def _split_heads(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, heads, H*W, C / heads)."""
        return x.flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(B, C, H, W) and the stage's position bias (1, heads, H*W, keys) to (B, C, H, W)."""
        k, v = self.kv(self.local_conv(self.sr(x))).chunk(2, dim=1)
        q, k, v = self._split_heads(self.q(x)), self._split_heads(k), self._split_heads(v)
        y = _attend(q, k, v, bias, self.attn_drop if self.training else 0.0)
        # Token by token in memory, so that the map comes out channels_last.
        y = y.transpose(1, 2).flatten(2).unflatten(1, (x.shape[2], x.shape[3]))
        return y.permute(0, 3, 1, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, dropout_p: float) -> Tensor:
    """Attention of q to k and v, all (B, heads, positions, dim), with a bias (1, heads, queries, keys)."""
    if needs_gradient(bias) and is_plain(q, k, v) and bias.dtype is q.dtype is torch.float32:
        # PyTorch has no fused attention on a CPU that differentiates the bias, and its general one makes more passes.
        scores = torch.add(bias, q @ k.transpose(2, 3), alpha=q.shape[-1] ** -0.5)
        return F.dropout(scores.softmax(-1), dropout_p) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=_mask(bias, q), dropout_p=dropout_p)


def _mask(bias: Tensor, q: Tensor) -> Tensor:
    """Return the position bias as a mask for ``q``, detached without gradients: PyTorch's fused attention needs it."""
    return (bias if torch.is_grad_enabled() else bias.detach()).to(q.dtype)


class DMixer(nn.Module):
    """Dual dynamic token mixer: IDConv on one half of the channels, OSRA on the other, and the squeezed token enhancer.

    Equations 2 and 5.
    """

    def __init__(self, dim: int, heads: int, sr_ratio: int, groups: int, attn_drop: float, proj_drop: float, **dd: Any):
        super().__init__()
        self.local_unit = IDConv(dim // 2, groups, **dd)
        self.global_unit = OSRA(dim // 2, heads, sr_ratio, attn_drop, **dd)
        squeezed = max(16, dim // 8)
        self.proj = nn.Sequential(
            DepthwiseConv(dim, 3, gelu=True, **dd),
            nn.Identity(),  # the authors' GELU, which the convolution applies
            nn.BatchNorm2d(dim, **dd),
            PointwiseConv(dim, squeezed, **dd),
            nn.GELU(),
            nn.BatchNorm2d(squeezed, **dd),
            PointwiseConv(squeezed, dim, **dd),
            nn.BatchNorm2d(dim, **dd),
        )
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor, bias: Tensor, scale: LayerScale | None = None) -> Tensor:
        """(B, C, H, W) and the stage's position bias to (B, C, H, W), scaled by ``scale``."""
        local, distant = x.chunk(2, dim=1)
        x = torch.cat([self.local_unit(local), self.global_unit(distant, bias)], dim=1)
        y, done, joins = x, 0, _may_join(x, self.proj, scale, self.proj_drop)
        if self._fuses(x):
            conv, _, norm, squeeze, *_ = self.proj
            y, done = depthwise_block(x, (conv,), norm, squeeze), 4
        y = _run(self.proj, y, done, joins)
        if scale is not None and joins:
            return torch.addcmul(scale.after(self.proj[-1], y), x, scale.weight.view(-1, 1, 1))
        y = self.proj_drop(y) + x
        return y if scale is None else scale(y)

    def _fuses(self, x: Tensor) -> bool:
        """Whether the first four layers of ``proj`` may be computed in one, in training."""
        norm, conv, plain = nn.BatchNorm2d, PointwiseConv, self.training and not observed()
        plain = plain and is_plain_sequence(
            self.proj, DepthwiseConv, nn.Identity, norm, conv, nn.GELU, norm, conv, norm
        )
        return plain and fuses(x, (self.proj[2],), (self.proj[3],), (self.proj[0],))


@register_notrace_module
class MultiScaleDWConv(nn.Module):
    """Depthwise convolutions of 1, 3, 5 and 7 pixels on a quarter of the channels each, plus their input, and GELU.

    Section III-C.
    """

    def __init__(self, dim: int, **dd: Any):
        super().__init__()
        quarter = dim // len(_FFN_KERNELS)
        self.dims = [dim - quarter * (len(_FFN_KERNELS) - 1)] + [quarter] * (len(_FFN_KERNELS) - 1)
        self.proj = nn.ModuleList(DepthwiseConv(d, k, **dd) for d, k in zip(self.dims, _FFN_KERNELS, strict=True))

    @property
    def fused_layers(self) -> nn.ModuleList:
        """The layers that this module computes without calling them, for counting."""
        return self.proj

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        weights, biases = [conv.weight for conv in self.proj], [conv.bias for conv in self.proj]
        y = multiscale_dwconv(x.permute(0, 2, 3, 1), weights, biases, identity=True, gelu=True)
        return y.permute(0, 3, 1, 2)


class MultiScaleFFN(nn.Module):
    """Multi-scale feed-forward network (section III-C)."""

    def __init__(self, dim: int, ratio: float, drop: float = 0.0, **dd: Any):
        super().__init__()
        hidden = int(dim * ratio)
        self.fc1 = nn.Sequential(PointwiseConv(dim, hidden, bias=False, **dd), nn.GELU(), nn.BatchNorm2d(hidden, **dd))
        self.dwconv = MultiScaleDWConv(hidden, **dd)
        self.norm = nn.BatchNorm2d(hidden, **dd)
        self.fc2 = nn.Sequential(PointwiseConv(hidden, dim, bias=False, **dd), nn.BatchNorm2d(dim, **dd))
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor, scale: LayerScale | None = None) -> Tensor:
        """(B, C, H, W) to (B, C, H, W), scaled by ``scale``."""
        joins = _may_join(x, self.fc2, scale, self.drop)
        if self._fuses(x):
            widen, _, entry = self.fc1
            x = depthwise_block(widen(x), self.dwconv.proj, self.norm, self.fc2[0], entry=entry, identity=True)
            done = 1
        else:
            x, done = self.drop(self.norm(self.dwconv(self.fc1(x)))), 0
        x = _run(self.fc2, x, done, joins)
        if scale is not None and joins:
            return scale.after(self.fc2[-1], x)
        x = self.drop(x)
        return x if scale is None else scale(x)

    def _fuses(self, x: Tensor) -> bool:
        """Whether everything between the two 1x1 convolutions may be computed in one with the second, in training."""
        plain = self.training and not observed() and _drops_nothing(self.drop)
        plain = plain and is_plain_module(MultiScaleDWConv, self.dwconv)
        plain = plain and is_plain_module(DepthwiseConv, *self.dwconv.proj)
        plain = plain and is_plain_sequence(self.fc1, PointwiseConv, nn.GELU, nn.BatchNorm2d)
        plain = plain and is_plain_sequence(self.fc2, PointwiseConv, nn.BatchNorm2d)
        return plain and fuses(x, (self.fc1[2], self.norm), (self.fc1[0], self.fc2[0]), self.dwconv.proj)


class LayerScale(nn.Module):
    """A learned weight and bias per channel."""

    is_layer_scale = True  # counted as a convolution, as the paper's code writes it

    def __init__(self, dim: int, **dd: Any):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim, 1, 1, 1, **dd))
        self.bias = nn.Parameter(torch.empty(dim, **dd))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise close to 0, so that a deep network starts near the identity."""
        nn.init.constant_(self.weight, _LAYER_SCALE)
        nn.init.zeros_(self.bias)

    def elementwise_macs(self, x: Tensor) -> tuple[str, int]:
        """Count the products, which the paper's code writes as a depthwise 1x1 convolution."""
        return "conv", x.numel()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.flatten()[:, None, None] + self.bias[:, None, None]

    def after(self, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
        """Return ``self(norm(x))`` in training, in no further pass: gain and bias of the norm take the scale."""
        weight = self.weight.flatten()
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        gain, bias = norm.weight * weight, torch.addcmul(self.bias, norm.bias, weight)
        return F.batch_norm(x, norm.running_mean, norm.running_var, gain, bias, True, norm.momentum, norm.eps)


def _may_join(x: Tensor, layers: nn.Sequential, scale: nn.Module | None, drop: nn.Module) -> bool:
    """Whether ``scale.after`` may compute the norm that ends ``layers`` and the scale, between which nothing is
    dropped. Not for torch.fx, whose stand-in for x is no tensor: the norm would count a batch while it traces."""
    plain = isinstance(x, Tensor) and not observed() and _drops_nothing(drop)
    plain = plain and is_plain_module(LayerScale, scale) and is_plain_module(nn.Sequential, layers)
    return plain and len(layers) > 0 and in_training(layers[-1]) and bool(layers[-1].track_running_stats)


def _drops_nothing(drop: nn.Module) -> bool:
    return is_plain_module(nn.Dropout, drop) and not (drop.p and drop.training)


def _run(layers: nn.Sequential, x: Tensor, done: int, joins: bool) -> Tensor:
    """Run the layers that are left: without the first ones that are ``done``, and without the last if it ``joins`` the
    layer scale. The container is called for all of them, so that hooks on it run."""
    if not done and not joins:
        return layers(x)
    for layer in list(layers)[done : -1 if joins else None]:
        x = layer(x)
    return x


class Block(nn.Module):
    """Dynamic position encoding, D-Mixer, multi-scale FFN (equation 1)."""

    def __init__(self, dim: int, mixer: DMixer, mlp_ratio: float, proj_drop: float, drop_path: float, **dd: Any):
        super().__init__()
        self.pos_embed = DepthwiseConv(dim, 7, identity=True, **dd)
        self.norm1 = group_norm(dim, **dd)
        self.token_mixer = mixer
        self.norm2 = group_norm(dim, **dd)
        self.mlp = MultiScaleFFN(dim, mlp_ratio, proj_drop, **dd)
        self.layer_scale_1 = LayerScale(dim, **dd)
        self.layer_scale_2 = LayerScale(dim, **dd)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.pos_embed(x)
        x = x + self.drop_path(self.token_mixer(self.norm1(x), bias, self.layer_scale_1))
        return x + self.drop_path(self.mlp(self.norm2(x), self.layer_scale_2))


@register_notrace_module
class PositionTable(nn.Module):
    """The relative position bias of a stage, shared by its blocks (section III-B2).

    A learned table. For maps of another size it is resized bicubically as a 2-D image of query by key positions, as the
    released weights were.
    """

    def __init__(self, heads: int, size: Size, sr_ratio: int, **dd: Any):
        super().__init__()
        self.sr_ratio = sr_ratio
        self.table = nn.Parameter(torch.empty(1, heads, *self._shape(*size), **dd))
        self._cache = SizeCache()
        self.reset_parameters()

    def _shape(self, height: int, width: int) -> tuple[int, int]:
        """Return the numbers of queries and keys of a map of this size."""
        return height * width, ceil_div(height, self.sr_ratio) * ceil_div(width, self.sr_ratio)

    def reset_parameters(self) -> None:
        """Initialise to no bias."""
        nn.init.zeros_(self.table)

    def train(self, mode: bool = True) -> PositionTable:
        self._cache.clear()
        return super().train(mode)

    def resize(self, size: Size) -> None:
        """Resize the learned table for maps of ``size``."""
        shape = self._shape(*size)
        if tuple(self.table.shape[2:]) != shape:
            with torch.no_grad():
                resized = resize_table(self.table, shape)
            self.table = nn.Parameter(resized, requires_grad=self.table.requires_grad)

    def forward(self, x: Tensor) -> Tensor:
        """Return the bias (1, heads, H*W, keys) for a map (B, C, H, W)."""
        shape = self._shape(x.shape[2], x.shape[3])
        # Resizing to the same shape changes nothing. A comparison of a dynamic size would specialise a traced program.
        if all(statically_known_true(ours == asked) for ours, asked in zip(self.table.shape[2:], shape, strict=True)):
            return self.table
        return self._cache.get(shape, (self.table,), lambda: resize_table(self.table, shape))


def resize_table(table: Tensor, shape: tuple[int, int]) -> Tensor:
    """Resize a table (1, h, queries, keys) bicubically to ``shape`` (align_corners=False), in its own dtype."""
    with without_autocast(table.device):
        wide = table.to(torch.promote_types(table.dtype, torch.float32))
        return F.interpolate(wide, size=shape, mode="bicubic", align_corners=False).to(table.dtype)


class TransXNetStage(Stage):
    """Patch embedding, then blocks that share one position table. NCHW in and out."""

    def __init__(
        self,
        downsample: PatchEmbed,
        position_bias: PositionTable,
        blocks: list[Block],
        dim: int,
        feature_norm: bool,
        **dd: Any,
    ):
        super().__init__()
        self.downsample = downsample
        self.position_bias = position_bias
        self.blocks = nn.Sequential(*blocks)
        self.feature_norm = group_norm(dim, **dd) if feature_norm else nn.Identity()

    def embed(self, x: Tensor) -> Tensor:
        return self.downsample(x)

    def transform(self, x: Tensor) -> Tensor:
        return self._run_blocks(x, self.position_bias(x))

    def feature(self, x: Tensor) -> Tensor:
        return self.feature_norm(x)


class TransXNet(Pyramid):
    """The TransXNet backbone and classifier.

    Args:
        img_size: size (int or pair) of the learned position tables, which are resized at other sizes.
        in_chans, num_classes, global_pool, drop_rate, proj_drop_rate, attn_drop_rate, drop_path_rate: as in timm.
        depths, embed_dims, num_heads, sr_ratios, mlp_ratios: one per stage.
        groups: number of kernels that IDConv mixes, per stage.
        feature_norm: apply a GroupNorm to every stage's feature map, as the released detectors and segmenters do.

    Input: (B, in_chans, H, W), H and W at least 32 and otherwise free. Raises ValueError for arguments that do not work
        together.
    """

    paper_counts_layers = True  # see ``foveal.models.counting``

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        depths: tuple[int, ...] = (3, 3, 9, 3),
        embed_dims: tuple[int, ...] = (48, 96, 224, 448),
        num_heads: tuple[int, ...] = (1, 2, 4, 8),
        sr_ratios: tuple[int, ...] = (8, 4, 2, 1),
        mlp_ratios: tuple[float, ...] = (4, 4, 4, 4),
        groups: tuple[int, ...] = (2, 2, 2, 2),
        feature_norm: bool = False,
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        dd = dict(device=device, dtype=dtype)
        self.img_size = _check_size(img_size)
        sizes = stage_sizes(self.img_size, len(depths))
        drop_paths = calculate_drop_path_rates(drop_path_rate, list(depths), stagewise=True)
        stages = []
        for i, dim in enumerate(embed_dims):
            downsample = PatchEmbed(embed_dims[i - 1] if i else in_chans, dim, *((3, 2) if i else (7, 4)), **dd)
            table = PositionTable(num_heads[i], sizes[i], sr_ratios[i], **dd)
            blocks = []
            for drop_path in drop_paths[i]:
                mixer = DMixer(dim, num_heads[i], sr_ratios[i], groups[i], attn_drop_rate, proj_drop_rate, **dd)
                blocks.append(Block(dim, mixer, mlp_ratios[i], proj_drop_rate, drop_path, **dd))
            stages.append(TransXNetStage(downsample, table, blocks, dim, feature_norm, **dd))
        self.stages = nn.Sequential(*stages)
        self.norm = group_norm(embed_dims[-1], **dd)
        self._init_pyramid(in_chans, tuple(embed_dims), num_classes, global_pool, drop_rate, True, device, dtype)
        self.init_weights()

    def set_input_size(self, img_size: int | Size) -> None:
        """Resize the learned position tables for images of ``img_size``."""
        self.img_size = _check_size(img_size)
        for stage, size in zip(self.stages, stage_sizes(self.img_size), strict=False):  # pruned nets have fewer stages
            stage.position_bias.resize(size)
        update_model_input_size(self, self.img_size)

    def add_feature_norms(self, stages: Sequence[int]) -> None:
        """Add a GroupNorm to the feature maps of these stages, as ``feature_norm`` does, to an existing network."""
        for i in stages:
            dim = self.feature_info[i]["num_chs"]
            self.stages[i].feature_norm = group_norm(dim, **get_device_dtype(self))

    def adapt_state_dict(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Resize position tables of another image size to this network's."""
        state = dict(state)
        for i, stage in enumerate(self.stages):
            name, shape = f"stages.{i}.position_bias.table", stage.position_bias.table.shape
            if name in state and state[name].shape[:2] == shape[:2] and state[name].shape != shape:
                state[name] = resize_table(state[name], tuple(shape[2:]))
        return state

    def init_module(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _check_size(img_size: int | Size) -> Size:
    height, width = to_2tuple(img_size)
    if min(height, width) < 32:
        raise ValueError(f"img_size must be at least 32 x 32, got {height} x {width}")
    return height, width


_RELEASED_NAMES = (
    (re.compile(r"^patch_embed\.proj\."), lambda m: "stages.0.downsample.proj."),
    (re.compile(r"^network\.([135])\.proj\."), lambda m: f"stages.{(int(m[1]) + 1) // 2}.downsample.proj."),
    (re.compile(r"^network\.([0246])\."), lambda m: f"stages.{int(m[1]) // 2}.blocks."),
    (re.compile(r"\.downsample\.proj\.conv\."), lambda m: ".downsample.proj."),
    (re.compile(r"\.downsample\.proj\.bn\."), lambda m: ".downsample.norm."),
    (re.compile(r"^relative_pos_enc\.(\d)$"), lambda m: f"stages.{m[1]}.position_bias.table"),
    (re.compile(r"^norm([0246])\."), lambda m: f"stages.{int(m[1]) // 2}.feature_norm."),
    (re.compile(r"^classifier\.0\."), lambda m: "norm."),
    (re.compile(r"^classifier\.2\."), lambda m: "head.fc."),
)


def checkpoint_filter_fn(state_dict: dict[str, Any], model: nn.Module) -> dict[str, Tensor]:
    """Return a state dict with this module's names from the content of a released file, a training checkpoint, or a
    whole detector.

    Position tables are resized to the network's image size.

    Raises:
        CheckpointError: part of ``model`` would stay unloaded, except the classifier and the first convolution, which
            timm adapts.
    """
    return prepare_state_dict(state_dict, model, _RELEASED_NAMES)


def _create(variant: str, pretrained: bool, settings: dict[str, Any], **defaults: Any) -> TransXNet:
    # The learned tables have the size of the chosen weights, so that loading does not resize them.
    cfg = resolve_pretrained_cfg(variant, settings.get("pretrained_cfg"), settings.get("pretrained_cfg_overlay"))
    defaults["img_size"] = tuple(cfg.input_size[-2:])
    return build_backbone(TransXNet, variant, pretrained, settings, **defaults)


def _released(file: str, crop_pct: float, size: int = 224) -> dict[str, Any]:
    url = f"https://github.com/LMMMEng/TransXNet/releases/download/v1.0/{file}"
    return classification_cfg(size, url=url, crop_pct=crop_pct, crop_mode="center")


default_cfgs = generate_default_cfgs(
    {
        "transxnet_t.in1k": _released("transx-t.pth.tar", 0.9),
        "transxnet_s.in1k": _released("transx-s.pth.tar", 0.9),
        "transxnet_b.in1k": _released("transx-b.pth.tar", 0.95),
        "transxnet_b.in1k_384": _released("transx-b-384.pth.tar", 0.95, size=384),
        "transxnet_atto.untrained": classification_cfg(),
    }
)


@register_model
def transxnet_t(pretrained: bool = False, **kwargs: Any) -> TransXNet:
    """TransXNet-T of the paper: 12.8 M parameters."""
    return _create("transxnet_t", pretrained, kwargs)


@register_model
def transxnet_s(pretrained: bool = False, **kwargs: Any) -> TransXNet:
    """TransXNet-S of the paper: 26.9 M parameters."""
    sizes = dict(depths=(4, 4, 12, 4), embed_dims=(64, 128, 320, 512), num_heads=(1, 2, 5, 8))
    return _create("transxnet_s", pretrained, kwargs, **sizes, mlp_ratios=(6, 6, 4, 4), groups=(2, 2, 3, 4))


@register_model
def transxnet_b(pretrained: bool = False, **kwargs: Any) -> TransXNet:
    """TransXNet-B of the paper: 48.0 M parameters."""
    sizes = dict(depths=(4, 4, 21, 4), embed_dims=(76, 152, 336, 672), num_heads=(2, 4, 8, 16))
    return _create("transxnet_b", pretrained, kwargs, **sizes, mlp_ratios=(8, 8, 4, 4), groups=(2, 2, 4, 4))


@register_model
def transxnet_atto(pretrained: bool = False, **kwargs: Any) -> TransXNet:
    """The smallest, for experiments on a laptop; not in the paper."""
    return _create("transxnet_atto", pretrained, kwargs, depths=(1, 1, 3, 1), embed_dims=(24, 48, 96, 192))
