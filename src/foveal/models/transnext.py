"""TransNeXt: aggregated (pixel-focused) attention and convolutional GLU.

Shi, "TransNeXt: Robust Foveal Visual Perception for Vision Transformers", CVPR 2024, arXiv:2311.17132. Equation
numbers below are that paper's. The networks reproduce the released weights' outputs; ``checkpoint_filter_fn`` reads the
released files.
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from timm.layers import DropPath, calculate_drop_path_rates, to_2tuple, to_ntuple
from timm.models import generate_default_cfgs, register_model
from timm.models._input import update_model_args, update_model_input_size
from torch import Tensor, nn

from foveal.near import did_you_mean
from foveal.types import Size

from .layers.aggregated_attention import Pooling
from .layers.attention_terms import KINDS, AttentionTerms
from .layers.channel_mixers import CHANNEL_MIXERS
from .layers.other_position_biases import OtherBiasAttention, PooledBias, WindowBias, resize_offsets
from .loading import prepare_state_dict
from .pyramid import Pyramid, Stage, check_per_stage, trunc_normal_
from .registration import build_backbone, classification_cfg
from .sizes import StageGeometry, check_img_size, stage_sizes

HEAD_DIM = 24


class PatchEmbed(nn.Module):
    """Strided convolution and LayerNorm: (B, C, H, W) images or maps to (B, ceil(H/s), ceil(W/s), dim) tokens."""

    def __init__(self, in_chans: int, dim: int, kernel: int, stride: int, device=None, dtype=None):
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, kernel, stride, kernel // 2, device=device, dtype=dtype)
        self.norm = nn.LayerNorm(dim, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class Block(nn.Module):
    """Pre-norm residual block: attention, then a channel mixer, convolutional GLU by default."""

    def __init__(
        self, dim: int, attn: nn.Module, mlp_ratio: float, proj_drop: float = 0.0, drop_path: float = 0.0,
        channel_mixer: str = "conv_glu", device=None, dtype=None,
    ):  # fmt: skip
        super().__init__()
        dd = dict(device=device, dtype=dtype)
        self.norm1 = nn.LayerNorm(dim, eps=1e-6, **dd)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dim, eps=1e-6, **dd)
        self.mlp = CHANNEL_MIXERS[channel_mixer](dim, mlp_ratio, proj_drop, **dd)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class TransNeXtStage(Stage):
    """Patch embedding, blocks, LayerNorm. NCHW in and out; tokens are (B, H, W, C) views in between."""

    def __init__(self, downsample: PatchEmbed, blocks: list[Block], dim: int, device=None, dtype=None):
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(dim, eps=1e-6, device=device, dtype=dtype)

    def embed(self, x: Tensor) -> Tensor:
        return self.downsample(x).permute(0, 3, 1, 2)

    def transform(self, x: Tensor) -> Tensor:
        return self.norm(self._run_blocks(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


class TransNeXt(Pyramid):
    """The TransNeXt backbone and classifier.

    Args:
        img_size: reference size (int or pair), at which an interpolated position bias is computed. It is not a limit.
        in_chans, num_classes, global_pool, drop_rate, proj_drop_rate, attn_drop_rate, drop_path_rate: as in timm.
        pretrain_size: size of the images in pre-training; sets the scale of the position bias, also after fine-tuning
            at another size.
        window_size: side of the window of fine-grained attention: odd, one for all stages or one per stage.
        pool_size: None pools to 1/32 of the image (normal mode); an int or pair pools every map to this size (linear
            mode). A smaller map, of a small image, is pooled to itself.
        position_bias: "extrapolate" computes the bias at the actual size, "interpolate" resizes it from ``img_size``.
        length_scaling: False scales attention by the number of keys in pre-training, whatever the size (the paper's
            ablation).
        depths, embed_dims, mlp_ratios, sr_ratios: one per stage.
        head_dim: channels per head of attention.
        token_mixers: one letter per stage: A for aggregated attention, M for multi-head self-attention of all tokens to
            all, S for PVT's spatial-reduction attention.
        channel_mixer: "conv_glu", or of the paper's ablations "glu", "mlp", "conv_mlp" (PVTv2's, with a depthwise
            convolution), "conv_glu_type1", "conv_glu_type2" or "conv_glu_type3" (appendix D.4).
        query_embedding, positional_attention: whether attention has these terms. Without both, aggregated attention is
            the paper's pixel-focused attention.
        pooling: "activate" (activate and pool, equation 5) or "average" (PVTv2's order in its linear attention).
        window_bias: position bias of the window's keys: "learned", or of the paper's table 6 "log_cpb", "positional"
            (positional attention within the softmax) or "none".
        pooled_bias: position bias of the pooled keys: "log_cpb", or of table 6 "learned" or "none".

    Input: (B, in_chans, H, W), H and W at least 32 and otherwise free. Raises ValueError for arguments that do not work
        together.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        pretrain_size: int | tuple[int, int] = 224,
        window_size: int | tuple[int, ...] = 3,
        pool_size: int | tuple[int, int] | None = None,
        position_bias: str = "extrapolate",
        length_scaling: bool = True,
        depths: tuple[int, ...] = (2, 2, 15, 2),
        embed_dims: tuple[int, ...] = (48, 96, 192, 384),
        mlp_ratios: tuple[float, ...] = (8, 8, 4, 4),
        sr_ratios: tuple[int, ...] = (8, 4, 2, 1),
        head_dim: int = HEAD_DIM,
        token_mixers: str = "AAAM",
        channel_mixer: str = "conv_glu",
        query_embedding: bool = True,
        positional_attention: bool = True,
        pooling: Pooling = "activate",
        window_bias: WindowBias = "learned",
        pooled_bias: PooledBias = "log_cpb",
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        dd = dict(device=device, dtype=dtype)
        _check_mixers(token_mixers, channel_mixer, len(depths))
        terms = AttentionTerms(query_embedding, positional_attention, pooling, window_bias, pooled_bias)
        terms.check(token_mixers)
        check_per_stage(len(depths), embed_dims=embed_dims, mlp_ratios=mlp_ratios, sr_ratios=sr_ratios)
        self.token_mixers = token_mixers
        self.sr_ratios = tuple(sr_ratios)
        self.window_size = _check_windows(window_size, len(depths))
        geometries = self._geometries(
            to_2tuple(img_size), to_2tuple(pretrain_size), pool_size, position_bias, length_scaling
        )
        drop_paths = calculate_drop_path_rates(drop_path_rate, list(depths), stagewise=True)
        settings: dict[str, Any] = dict(attn_drop=attn_drop_rate, proj_drop=proj_drop_rate, **dd)

        stages = []
        for i, (dim, geometry) in enumerate(zip(embed_dims, geometries, strict=True)):
            previous, heads = embed_dims[i - 1] if i else in_chans, _heads(dim, head_dim)
            downsample = PatchEmbed(previous, dim, *((3, 2) if i else (7, 4)), **dd)
            blocks = []
            for drop_path in drop_paths[i]:
                attn = terms.create(token_mixers[i], dim, heads, self.window_size[i], geometry, **settings)
                blocks.append(Block(dim, attn, mlp_ratios[i], proj_drop_rate, drop_path, channel_mixer, **dd))
            stages.append(TransNeXtStage(downsample, blocks, dim, **dd))
        self.stages = nn.Sequential(*stages)
        self.norm = nn.Identity()
        self._init_pyramid(in_chans, tuple(embed_dims), num_classes, global_pool, drop_rate, False, device, dtype)
        self.init_weights()

    def _geometries(
        self,
        img_size: Size,
        pretrain_size: Size,
        pool_size: int | Size | None,
        position_bias: str,
        length_scaling: bool,
    ) -> list[StageGeometry]:
        """Return one geometry per stage, and store the settings; raise ValueError first if they do not work."""
        if position_bias not in ("extrapolate", "interpolate"):
            raise ValueError(f'position_bias must be "extrapolate" or "interpolate", got {position_bias!r}')
        check_img_size(img_size)
        pool = None if pool_size is None else to_2tuple(pool_size)
        sizes = stage_sizes(img_size, len(self.sr_ratios))
        pooled = [size for size, mixer in zip(sizes, self.token_mixers, strict=True) if mixer == "A"]
        _check_pool(pool, pooled, img_size)
        self.img_size, self.pretrain_size, self.pool_size = img_size, pretrain_size, pool
        self.bias_mode, self.length_scaling = position_bias, length_scaling
        return [
            StageGeometry(
                reference=size,
                pretrain=(max(pretrain_size[0] // 2 ** (i + 2), 1), max(pretrain_size[1] // 2 ** (i + 2), 1)),
                sr_ratio=ratio,
                pool_size=pool,
                interpolate=position_bias == "interpolate",
                length_scaling=length_scaling,
            )
            for i, (size, ratio) in enumerate(zip(sizes, self.sr_ratios, strict=True))
        ]

    def set_input_size(
        self,
        img_size: int | Size | None = None,
        *,
        pool_size: int | Size | str | None = "keep",
        pretrain_size: int | Size | None = None,
        position_bias: str | None = None,
        length_scaling: bool | None = None,
    ) -> None:
        """Change how the network handles sizes, without changing a weight. Arguments left out stay as they are.

        Args:
            img_size: the reference size of an interpolated position bias.
            pool_size: None for normal mode, an int or pair for linear mode.
            pretrain_size, position_bias, length_scaling: as in the constructor.

        Windows have parameters of their own and cannot be changed.

        Raises:
            ValueError: settings that do not work; nothing is changed.
        """
        geometries = self._geometries(
            self.img_size if img_size is None else to_2tuple(img_size),
            self.pretrain_size if pretrain_size is None else to_2tuple(pretrain_size),
            self.pool_size if pool_size == "keep" else pool_size,
            self.bias_mode if position_bias is None else position_bias,
            self.length_scaling if length_scaling is None else length_scaling,
        )
        for stage, geometry in zip(self.stages, geometries, strict=False):  # pruned nets have fewer stages
            for block in stage.blocks:
                block.attn.geometry = geometry
                if isinstance(block.attn, OtherBiasAttention):
                    block.attn.resize_table()
        update_model_input_size(self, self.img_size)
        update_model_args(  # unlike the above, this stores None, which is a mode here
            self,
            pool_size=self.pool_size,
            pretrain_size=self.pretrain_size,
            position_bias=self.bias_mode,
            length_scaling=self.length_scaling,
        )

    def adapt_state_dict(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Resize learned biases of pooled keys (table 6) to this network's ``img_size``."""
        adapted = {}
        for name, ours in self.state_dict().items():
            if name.endswith(".relative_pos_bias_pool") and name in state:
                pool = ((ours.shape[1] + 1) // 2, (ours.shape[2] + 1) // 2)
                adapted[name] = resize_offsets(state[name], pool)
        return {**state, **adapted}

    def no_weight_decay(self) -> set[str]:
        """Return the authors' exceptions: embeddings, temperatures, local biases, and the position bias network."""
        exempt = ("query_embedding", "relative_pos_bias_", "cpb", "temperature")
        return {name for name, _ in self.named_parameters() if any(word in name for word in exempt)}

    def init_module(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
            nn.init.zeros_(module.bias)


def _check_mixers(token_mixers: str, channel_mixer: str, stages: int) -> None:
    if len(token_mixers) != stages or set(token_mixers) - set(KINDS):
        raise ValueError(f"token_mixers must be {stages} letters of A, M and S, one per stage, got {token_mixers!r}")
    if channel_mixer not in CHANNEL_MIXERS:
        near = did_you_mean(channel_mixer, CHANNEL_MIXERS, most=1)
        raise ValueError(f"channel_mixer must be one of {', '.join(CHANNEL_MIXERS)}, got {channel_mixer!r}{near}")


def _heads(dim: int, head_dim: int) -> int:
    if head_dim < 1 or dim % head_dim:
        raise ValueError(f"head_dim must divide the channels of every stage, and {head_dim} does not divide {dim}")
    return dim // head_dim


def _check_windows(window_size: int | tuple[int, ...], stages: int) -> tuple[int, ...]:
    windows = tuple(to_ntuple(stages)(window_size))
    if len(windows) != stages:
        raise ValueError(f"window_size must be one number or {stages} of them, one per stage, got {window_size}")
    for window in windows:
        if window < 1 or window % 2 == 0:
            raise ValueError(f"window_size must be odd (3, 5, 7, ...), got {window}")
    return windows


def _check_pool(pool: Size | None, sizes: list[Size], img_size: Size) -> None:
    """Raise ValueError for pooling to the map itself, which would put every key into the softmax twice."""
    if pool is None:
        return
    if not all(isinstance(side, int) and side > 0 for side in pool):
        raise ValueError(f"pool_size must be at least 1 and a whole number, got {pool[0]!r} x {pool[1]!r}")
    for height, width in sizes:
        if pool[0] >= height or pool[1] >= width:
            raise ValueError(
                f"pool_size {pool[0]} x {pool[1]} must be smaller than every pooled stage's map, but an image of "
                f"{img_size[0]} x {img_size[1]} has one of {height} x {width}; choose a smaller pool_size"
            )


RELEASED_NAMES = (  # PVT's files have such names, too
    (re.compile(r"^patch_embed(\d)\."), lambda m: f"stages.{int(m[1]) - 1}.downsample."),
    (re.compile(r"^block(\d)\."), lambda m: f"stages.{int(m[1]) - 1}.blocks."),
    (re.compile(r"^norm(\d)\."), lambda m: f"stages.{int(m[1]) - 1}.norm."),
    (re.compile(r"\.mlp\.dwconv\.dwconv\."), lambda m: ".mlp.dwconv."),
    (re.compile(r"^head\.(weight|bias)$"), lambda m: f"head.fc.{m[1]}"),
)


def checkpoint_filter_fn(state_dict: dict[str, Any], model: nn.Module) -> dict[str, Tensor]:
    """Return a state dict with this module's names from the content of a released file, a training checkpoint, or a
    whole detector.

    Raises:
        CheckpointError: part of ``model`` would stay unloaded, except the classifier and the first convolution, which
            timm adapts.
    """
    return prepare_state_dict(state_dict, model, RELEASED_NAMES)


def _released(repository: str, file: str, size: int = 224) -> dict[str, Any]:
    home = dict(hf_hub_id=f"DaiShiResearch/{repository}", hf_hub_filename=file, license="apache-2.0")
    return classification_cfg(size, **home)


default_cfgs = generate_default_cfgs(
    {
        "transnext_micro.in1k": _released("transnext-micro-224-1k", "transnext_micro_224_1k.pth"),
        "transnext_tiny.in1k": _released("transnext-tiny-224-1k", "transnext_tiny_224_1k.pth"),
        "transnext_small.in1k": _released("transnext-small-224-1k", "transnext_small_224_1k.pth"),
        "transnext_small.in1k_384": _released(
            "transnext-small-384-1k-ft-1k", "transnext_small_384_1k_ft_1k.pth", size=384
        ),
        "transnext_base.in1k": _released("transnext-base-224-1k", "transnext_base_224_1k.pth"),
        "transnext_base.in1k_384": _released(
            "transnext-base-384-1k-ft-1k", "transnext_base_384_1k_ft_1k.pth", size=384
        ),
        "transnext_micro_aaaa.in1k_256": _released(
            "transnext-micro-AAAA-256-1k", "transnext_micro_AAAA_256_1k.pth", size=256
        ),
        "transnext_atto.untrained": classification_cfg(),
        "transnext_pico.untrained": classification_cfg(),
    }
)


@register_model
def transnext_micro(pretrained: bool = False, **kwargs: Any) -> TransNeXt:
    """TransNeXt-Micro of the paper: 12.8 M parameters."""
    return build_backbone(TransNeXt, "transnext_micro", pretrained, kwargs)


@register_model
def transnext_tiny(pretrained: bool = False, **kwargs: Any) -> TransNeXt:
    """TransNeXt-Tiny of the paper: 28.3 M parameters."""
    return build_backbone(TransNeXt, "transnext_tiny", pretrained, kwargs, embed_dims=(72, 144, 288, 576))


@register_model
def transnext_small(pretrained: bool = False, **kwargs: Any) -> TransNeXt:
    """TransNeXt-Small of the paper: 49.7 M parameters."""
    return build_backbone(
        TransNeXt, "transnext_small", pretrained, kwargs, embed_dims=(72, 144, 288, 576), depths=(5, 5, 22, 5)
    )


@register_model
def transnext_base(pretrained: bool = False, **kwargs: Any) -> TransNeXt:
    """TransNeXt-Base of the paper: 89.7 M parameters."""
    return build_backbone(
        TransNeXt, "transnext_base", pretrained, kwargs, embed_dims=(96, 192, 384, 768), depths=(5, 5, 23, 5)
    )


@register_model
def transnext_micro_aaaa(pretrained: bool = False, **kwargs: Any) -> TransNeXt:
    """The paper's A-A-A-A ablation (table 9): aggregated attention in all stages, trained at 256 pixels."""
    aggregated = dict(token_mixers="AAAA", sr_ratios=(16, 8, 4, 2), img_size=256, pretrain_size=256)
    return build_backbone(TransNeXt, "transnext_micro_aaaa", pretrained, kwargs, **aggregated)


@register_model
def transnext_atto(pretrained: bool = False, **kwargs: Any) -> TransNeXt:
    """The smallest, for experiments on a laptop; not in the paper."""
    return build_backbone(
        TransNeXt, "transnext_atto", pretrained, kwargs, embed_dims=(24, 48, 96, 192), depths=(1, 1, 3, 1)
    )


@register_model
def transnext_pico(pretrained: bool = False, **kwargs: Any) -> TransNeXt:
    """About the 2 M parameters of the paper's CIFAR-100 ablations, whose configuration is not published."""
    return build_backbone(
        TransNeXt, "transnext_pico", pretrained, kwargs, embed_dims=(24, 48, 96, 192), depths=(2, 2, 6, 2)
    )
