"""TransXNet: a dual dynamic token mixer of input-dependent depthwise convolution and spatial-reduction attention.

Lou, Zhang, Zhou, Yang, Wu, Yu, "TransXNet: Learning Both Global and Local Dynamics with a Dual Dynamic Token Mixer for
Visual Recognition", arXiv:2310.19380. Equation and section numbers below are that paper's. The networks reproduce the
released weights' outputs; ``checkpoint_filter_fn`` reads the released files.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import DropPath, calculate_drop_path_rates, get_device_dtype
from timm.models import generate_default_cfgs, register_model
from timm.models._builder import resolve_pretrained_cfg
from timm.models._input import update_model_input_size
from torch import Tensor, nn

from foveal.near import did_you_mean
from foveal.types import Size

from .layers.acmix import ShiftConv
from .layers.d_mixer import DMixer
from .layers.depthwise import DepthwiseConv, SeparateCells
from .layers.layer_scale import LayerScale
from .layers.local_mixers import LOCAL_MIXERS
from .layers.multiscale_ffn import FFN_KERNELS, MultiScaleFFN
from .layers.plain_ffn import PlainFFN
from .layers.position_table import PositionTable, resize_table
from .layers.token_mixers import TOKEN_MIXERS
from .loading import prepare_state_dict
from .pyramid import Pyramid, Stage, check_per_stage, trunc_normal_
from .registration import build_backbone, classification_cfg
from .sizes import MIN_SIZE, check_img_size, stage_sizes

EMBED_KERNELS = (7, 3, 3, 3)
_EMBED_STRIDES = (4, 2, 2, 2)


def group_norm(dim: int, **dd: Any) -> nn.GroupNorm:
    """Return a GroupNorm with one group: mean and variance over channels and positions together."""
    return nn.GroupNorm(1, dim, **dd)


class PatchEmbed(nn.Module):
    """Strided convolution and BatchNorm. Patches overlap if ``kernel`` is larger than ``stride``."""

    def __init__(self, in_chans: int, dim: int, kernel: int, stride: int, device=None, dtype=None):
        super().__init__()
        dd = dict(device=device, dtype=dtype)
        self.proj: nn.Conv2d = (
            SeparateCells(in_chans, dim, stride, **dd)
            if kernel == stride
            else nn.Conv2d(in_chans, dim, kernel, stride, kernel // 2, bias=False, **dd)
        )
        self.norm = nn.BatchNorm2d(dim, **dd)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x))


class Block(nn.Module):
    """Dynamic position encoding, D-Mixer, multi-scale FFN (equation 1)."""

    def __init__(
        self, dim: int, mixer: nn.Module, mlp_ratio: float, proj_drop: float, drop_path: float,
        ffn_kernels: Sequence[int] = FFN_KERNELS, position_encoding: bool = True,
        ffn_norm: bool = True, layer_scale: bool = True, **dd: Any,
    ):  # fmt: skip
        super().__init__()
        self.pos_embed = DepthwiseConv(dim, 7, identity=True, **dd) if position_encoding else nn.Identity()
        self.norm1 = group_norm(dim, **dd)
        self.token_mixer = mixer
        self.norm2 = group_norm(dim, **dd)
        self.mlp: nn.Module = (
            MultiScaleFFN(dim, mlp_ratio, proj_drop, ffn_kernels, **dd)
            if ffn_norm
            else PlainFFN(dim, mlp_ratio, proj_drop, **dd)
        )
        self.layer_scale_1: nn.Module = LayerScale(dim, **dd) if layer_scale else nn.Identity()
        self.layer_scale_2: nn.Module = LayerScale(dim, **dd) if layer_scale else nn.Identity()
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.pos_embed(x)
        x = x + self.drop_path(self.token_mixer(self.norm1(x), bias, self.layer_scale_1))
        return x + self.drop_path(self.mlp(self.norm2(x), self.layer_scale_2))


class TokenBlock(Block):
    """The same block with a token mixer that takes tokens (B, H, W, C) and no position bias (table VI)."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        x = self.pos_embed(x)
        y = self.token_mixer(self.norm1(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = x + self.drop_path(self.layer_scale_1(y))
        return x + self.drop_path(self.mlp(self.norm2(x), self.layer_scale_2))


class TransXNetStage(Stage):
    """Patch embedding, then blocks that share one position table. NCHW in and out."""

    def __init__(
        self,
        downsample: PatchEmbed,
        position_bias: PositionTable | None,
        blocks: Sequence[Block],
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
        return self._run_blocks(x, self.position_bias(x))  # type: ignore[misc]  # None in TokenStage alone

    def feature(self, x: Tensor) -> Tensor:
        return self.feature_norm(x)


class TokenStage(TransXNetStage):
    """A stage of blocks without a position bias."""

    def transform(self, x: Tensor) -> Tensor:
        return self._run_blocks(x)


class TransXNet(Pyramid):
    """The TransXNet backbone and classifier.

    Args:
        img_size: size (int or pair) of the learned position tables, which are resized at other sizes.
        in_chans, num_classes, global_pool, drop_rate, proj_drop_rate, attn_drop_rate, drop_path_rate: as in timm.
        depths, embed_dims, num_heads, sr_ratios, mlp_ratios: one per stage.
        groups: number of kernels that IDConv mixes, per stage.
        attention_ratio: share of the channels that attention gets, the rest is convolved (table IX).
        overlapping_reduction: whether the cells of the keys' reduction overlap (OSR), or not (NSR, table X).
        token_enhancer: whether the mixer ends in the squeezed token enhancer (STE), or in a 1x1 convolution (table X).
        position_encoding: whether blocks begin with the dynamic position encoding (DPE, table X).
        ffn_kernels: sizes of the depthwise convolutions between the layers of the FFN; none for a plain FFN (table
            VIII).
        token_mixer: "d_mixer", or another mixer of table VI: "sep_conv", "sra", "window", "mixing_block", "acmix". All
            take ``num_heads``; "sra" takes ``sr_ratios``.
        local_mixer: "idconv", or what has its place in the D-Mixer in table VII: "dwconv", "window", "dyconv",
            "d_dwconv".
        embed_kernels: sides of the patch embeddings' convolutions with strides 4, 2, 2, 2; patches of a side equal to
            the stride do not overlap (table VI).
        ffn_norm: whether the FFN has BatchNorms, or biases instead; without them ``ffn_kernels`` must be () (table VI).
        layer_scale: whether blocks have layer scales (table VI).
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
        attention_ratio: float = 0.5,
        overlapping_reduction: bool = True,
        token_enhancer: bool = True,
        position_encoding: bool = True,
        ffn_kernels: tuple[int, ...] = FFN_KERNELS,
        token_mixer: str = "d_mixer",
        local_mixer: str = "idconv",
        embed_kernels: tuple[int, ...] = EMBED_KERNELS,
        ffn_norm: bool = True,
        layer_scale: bool = True,
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
        self.img_size = check_img_size(img_size)
        per_stage = dict(num_heads=num_heads, sr_ratios=sr_ratios, mlp_ratios=mlp_ratios, groups=groups)
        check_per_stage(len(depths), embed_dims=embed_dims, **per_stage)
        mixing = (attention_ratio, overlapping_reduction, token_enhancer, local_mixer)
        _check_mixers(token_mixer, mixing, embed_dims, num_heads)
        _check_kernels(embed_kernels, ffn_kernels, ffn_norm, len(embed_dims))
        sizes = stage_sizes(self.img_size, len(depths))
        drop_paths = calculate_drop_path_rates(drop_path_rate, list(depths), stagewise=True)
        drops = attn_drop_rate, proj_drop_rate
        dual = token_mixer == "d_mixer"
        stage, block = (TransXNetStage, Block) if dual else (TokenStage, TokenBlock)
        stages = []
        for i, dim in enumerate(embed_dims):
            patches = embed_kernels[i], _EMBED_STRIDES[i]
            downsample = PatchEmbed(embed_dims[i - 1] if i else in_chans, dim, *patches, **dd)
            table = PositionTable(num_heads[i], sizes[i], sr_ratios[i], **dd) if dual else None
            blocks = []
            for index, drop_path in enumerate(drop_paths[i]):
                mixer = (
                    DMixer(dim, num_heads[i], sr_ratios[i], groups[i], *drops, *mixing, **dd)
                    if dual
                    else TOKEN_MIXERS[token_mixer](dim, num_heads[i], sr_ratios[i], index % 2 == 1, drops, **dd)
                )
                ffn = mlp_ratios[i], proj_drop_rate, drop_path, ffn_kernels
                blocks.append(block(dim, mixer, *ffn, position_encoding, ffn_norm, layer_scale, **dd))
            stages.append(stage(downsample, table, blocks, dim, feature_norm, **dd))
        self.stages = nn.Sequential(*stages)
        self.norm = group_norm(embed_dims[-1], **dd)
        self._init_pyramid(in_chans, tuple(embed_dims), num_classes, global_pool, drop_rate, True, device, dtype)
        self.init_weights()

    def _untrainable(self) -> int:
        """The last map of a small image has one value per channel, and what ``pools_to_one`` has one for any image."""
        modules = list(self.modules())
        if not any(type(module) is nn.BatchNorm2d and module.training for module in modules):
            return 0
        return sys.maxsize if any(getattr(module, "pools_to_one", False) for module in modules) else MIN_SIZE

    def set_input_size(self, img_size: int | Size) -> None:
        """Resize the learned position tables for images of ``img_size``."""
        self.img_size = check_img_size(img_size)
        for stage, size in zip(self.stages, stage_sizes(self.img_size), strict=False):  # pruned nets have fewer stages
            if stage.position_bias is not None:
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
            if stage.position_bias is None:
                continue
            name, shape = f"stages.{i}.position_bias.table", stage.position_bias.table.shape
            if name in state and state[name].shape[:2] == shape[:2] and state[name].shape != shape:
                state[name] = resize_table(state[name], tuple(shape[2:]))
        return state

    def init_module(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d | nn.Linear) and not isinstance(module, ShiftConv):
            trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


_NO_CHANGE = (0.5, True, True, "idconv")  # of the D-Mixer


def _check_mixers(token_mixer: str, mixing: tuple, dims: Sequence[int], heads: Sequence[int]) -> None:
    local_mixer = mixing[-1]
    if local_mixer not in LOCAL_MIXERS:
        near = did_you_mean(local_mixer, LOCAL_MIXERS, most=1)
        raise ValueError(f"local_mixer must be one of {', '.join(LOCAL_MIXERS)}, got {local_mixer!r}{near}")
    if token_mixer == "d_mixer":
        return
    if token_mixer not in TOKEN_MIXERS:
        known = ("d_mixer", *TOKEN_MIXERS)
        near = did_you_mean(token_mixer, known, most=1)
        raise ValueError(f"token_mixer must be one of {', '.join(known)}, got {token_mixer!r}{near}")
    if mixing != _NO_CHANGE:
        raise ValueError(
            "attention_ratio, overlapping_reduction, token_enhancer and local_mixer change the D-Mixer: leave them out "
            f"with token_mixer={token_mixer!r}"
        )
    shared = [dim // 2 if token_mixer == "mixing_block" else dim for dim in dims]
    for dim, count in zip(shared, heads, strict=True):
        if token_mixer != "sep_conv" and dim % count:
            raise ValueError(
                f"num_heads {tuple(heads)} must divide the channels of token_mixer={token_mixer!r}, and {count} does "
                f"not divide {dim}"
            )


def _check_kernels(embed: Sequence[int], ffn: Sequence[int], ffn_norm: bool, stages: int) -> None:
    if not isinstance(ffn, tuple | list) or any(kernel < 1 or kernel % 2 == 0 for kernel in ffn):
        raise ValueError(f"ffn_kernels must be odd (1, 3, 5, ...), got {ffn!r}")
    if ffn and not ffn_norm:
        raise ValueError("ffn_norm=False is a plain FFN: pass ffn_kernels=() with it")
    sides = zip(embed, _EMBED_STRIDES, strict=False)
    if len(embed) < stages or any(k < s or (k != s and k % 2 == 0) for k, s in sides):
        raise ValueError(
            f"embed_kernels must be odd and larger than the strides {_EMBED_STRIDES}, or equal to them, got "
            f"{tuple(embed)}"
        )


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
