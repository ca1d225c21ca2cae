"""TransNeXt: aggregated (pixel-focused) attention and convolutional GLU.

Shi, "TransNeXt: Robust Foveal Visual Perception for Vision Transformers", CVPR 2024, arXiv:2311.17132. Equation
numbers below are that paper's. The networks reproduce the released weights' outputs; ``checkpoint_filter_fn`` reads the
released files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath, calculate_drop_path_rates, to_2tuple, to_ntuple
from timm.models import generate_default_cfgs, register_model, register_notrace_module
from timm.models._input import update_model_args, update_model_input_size
from torch import Tensor, nn

from foveal.ops import aggregated_attention, gated_dwconv, gelu_pool
from foveal.ops.aggregated_attention.api import reads_table
from foveal.ops.aggregated_attention.resize import resize_bias
from foveal.ops.host import linear, needs_gradient, observed
from foveal.ops.numerics import without_autocast
from foveal.types import Size

from .cache import SizeCache
from .loading import prepare_state_dict
from .position_bias import continuous_position_bias, distinct_offsets, position_bias_table
from .pyramid import Linear, Pyramid, Stage, trunc_normal_
from .registration import build_backbone, classification_cfg
from .sizes import StageGeometry, stage_sizes

HEAD_DIM = 24
_INITIAL_SCALE = 1 / 0.24  # softplus(temperature) at the start, section 3.1.3
_BIAS_HIDDEN = 512


class PatchEmbed(nn.Module):
    """Strided convolution and LayerNorm: (B, C, H, W) images or maps to (B, ceil(H/s), ceil(W/s), dim) tokens."""

    def __init__(self, in_chans: int, dim: int, kernel: int, stride: int, device=None, dtype=None):
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, kernel, stride, kernel // 2, device=device, dtype=dtype)
        self.norm = nn.LayerNorm(dim, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


@register_notrace_module
class PointwiseConv(nn.Conv2d):
    """1x1 convolution, computed as a linear layer if its input alone needs a gradient: that keeps no map for it."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C_out, H, W)."""
        if observed() or not needs_gradient(x) or needs_gradient(self.weight, self.bias):
            return super().forward(x)
        return linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class CosineAttention(nn.Module):
    """Base of both attentions: length-scaled cosine similarity, query embedding, and the continuous position bias."""

    def __init__(self, dim: int, heads: int, geometry: StageGeometry, attn_drop: float, device=None, dtype=None):
        super().__init__()
        dd = dict(device=device, dtype=dtype)
        self.heads = heads
        self.geometry = geometry
        self.attn_drop = attn_drop
        self.temperature = nn.Parameter(torch.empty(heads, 1, 1, **dd))
        self.query_embedding = nn.Parameter(torch.empty(heads, 1, dim // heads, **dd))
        self.cpb_fc1 = nn.Linear(2, _BIAS_HIDDEN, **dd)
        self.cpb_fc2 = nn.Linear(_BIAS_HIDDEN, heads, **dd)
        self._bias_cache = SizeCache()

    def reset_parameters(self) -> None:
        """Initialise the parameters that do not belong to a layer."""
        nn.init.constant_(self.temperature, math.log(math.expm1(_INITIAL_SCALE)))
        trunc_normal_(self.query_embedding, std=0.02)

    def train(self, mode: bool = True) -> CosineAttention:
        self._bias_cache.clear()
        return super().train(mode)

    def scale(self) -> Tensor:
        """Return the softplus of the temperature, (heads,), in float32 at least."""
        return F.softplus(self.temperature.flatten().to(torch.promote_types(self.temperature.dtype, torch.float32)))

    def key_size(self, size: Size) -> Size:
        """Return (H, W) of the map that the keys come from, for queries on a map of ``size``."""
        raise NotImplementedError

    def position_bias(self, height: int, width: int) -> Tensor:
        """Return the bias (heads, H*W, keys), computed once per size and cached while the weights are not trained."""
        return self._kept("dense", (height, width), self._position_bias)

    def pool_bias(self, q: Tensor, window: int, dropout_p: float = 0.0) -> dict[str, Any]:
        """Return the position bias as arguments of ``aggregated_attention``, cached like the dense one.

        It is a table of offsets if the operator can read one, and the dense bias otherwise.
        """
        size = (q.shape[1], q.shape[2])
        if not self._reads_table(q, window, dropout_p):
            return dict(pool_bias=self.position_bias(*size))
        if not self.geometry.interpolate:
            return dict(pool_bias_table=self._kept("table", size, self._position_bias_table))
        reference = self.geometry.reference
        return dict(
            pool_bias_table=self._kept("table", reference, self._position_bias_table),
            table_sizes=(reference, self.key_size(reference)),
        )

    def _reads_table(self, q: Tensor, window: int, dropout_p: float) -> bool:
        return reads_table(q, self.cpb_fc1.weight, window, dropout_p, resized=self.geometry.interpolate)

    def _kept(self, form: str, size: Size, compute: Callable[[Size], Tensor]) -> Tensor:
        weights = (self.cpb_fc1.weight, self.cpb_fc1.bias, self.cpb_fc2.weight, self.cpb_fc2.bias)
        return self._bias_cache.get((form, size, self.geometry), weights, lambda: compute(size))

    def _position_bias_table(self, size: Size) -> Tensor:
        return position_bias_table(self.cpb_fc1, self.cpb_fc2, size, self.key_size(size), self.geometry.pretrain)

    def _position_bias(self, size: Size) -> Tensor:
        geometry, keys = self.geometry, self.key_size(size)
        if not geometry.interpolate:
            return continuous_position_bias(self.cpb_fc1, self.cpb_fc2, size, keys, geometry.pretrain)
        reference_keys = self.key_size(geometry.reference)
        bias = continuous_position_bias(
            self.cpb_fc1, self.cpb_fc2, geometry.reference, reference_keys, geometry.pretrain
        )
        return resize_bias(bias, geometry.reference, reference_keys, size, keys)

    def elementwise_macs(self, x: Tensor) -> tuple[str, int]:
        """Count the products of the position bias's first layer, which is computed as a sum of one term per axis."""
        size = (x.shape[1], x.shape[2])
        if self.geometry.interpolate:
            size = self.geometry.reference
        return "linear", distinct_offsets(size, self.key_size(size)) * self.cpb_fc1.weight.numel()

    def attend(self, q: Tensor, k: Tensor, v: Tensor, dropout_p: float = 0.0) -> Tensor:
        """Attention of every token to every token (equation 9): all (B, H, W, heads, dim), not normalised.

        Where nothing reads a table of offsets, PyTorch's attention takes the dense bias.
        """
        size, scale = (q.shape[1], q.shape[2]), self.scale()
        if self._reads_table(q, 0, dropout_p):
            return aggregated_attention(
                q,
                None,
                None,
                k,
                v,
                scale=scale,
                query_embedding=self.query_embedding.flatten(1),
                **self.pool_bias(q, 0, dropout_p),
                window=0,
                length=self.geometry.full_length(size),
                dropout_p=dropout_p,
            )
        with without_autocast(q.device):
            unit_q = F.normalize(q.to(scale.dtype), dim=-1) + self.query_embedding.flatten(1).to(scale.dtype)
            unit_k = F.normalize(k.to(scale.dtype), dim=-1)
            scaled = unit_q * (scale[:, None] * _log(self.geometry.full_length(size), scale))
        q, k, v = (t.flatten(1, 2).transpose(1, 2) for t in (scaled.to(q.dtype), unit_k.to(k.dtype), v))
        y = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=self.position_bias(*size).to(v.dtype).contiguous(),
            dropout_p=dropout_p,
            scale=1.0,
        )
        return y.transpose(1, 2).unflatten(1, size)

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))


@register_notrace_module
class AggregatedAttention(CosineAttention):
    """Attention to the window and to the pooled map in one softmax, plus positional attention (equations 10-12)."""

    def __init__(
        self, dim: int, heads: int, window: int, geometry: StageGeometry,
        attn_drop: float = 0.0, proj_drop: float = 0.0, device=None, dtype=None,
    ):  # fmt: skip
        super().__init__(dim, heads, geometry, attn_drop, device, dtype)
        dd = dict(device=device, dtype=dtype)
        head_dim, area = dim // heads, window * window
        self.window = window
        self.relative_pos_bias_local = nn.Parameter(torch.empty(heads, area, **dd))
        self.learnable_tokens = nn.Parameter(torch.empty(heads, head_dim, area, **dd))
        self.learnable_bias = nn.Parameter(torch.empty(heads, 1, area, **dd))
        self.q = Linear(dim, dim, **dd)
        self.kv = Linear(dim, 2 * dim, **dd)
        self.sr = PointwiseConv(dim, dim, 1, **dd)
        self.norm = nn.LayerNorm(dim, **dd)
        self.proj = Linear(dim, dim, **dd)
        self.proj_drop = nn.Dropout(proj_drop)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        trunc_normal_(self.relative_pos_bias_local, std=0.0004)
        trunc_normal_(self.learnable_tokens, std=0.02)
        nn.init.zeros_(self.learnable_bias)

    def key_size(self, size: Size) -> Size:
        return self.geometry.pooled(size)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values (B, H, W, heads, dim) of tokens (B, H, W, C), not normalised."""
        return self._split_heads(self.q(x)), *self._keys_and_values(x)

    def pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values (B, Hp, Wp, heads, dim) of the pooled map ("activate and pool", equation 5)."""
        size = self.geometry.pooled((x.shape[1], x.shape[2]))
        x = self.sr(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self._keys_and_values(self.norm(gelu_pool(x, size)))

    def _keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.kv(x).unflatten(-1, (2, self.heads, -1)).unbind(-3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        dropout_p = self.attn_drop if self.training else 0.0
        q, k, v = self.project(x)
        y = aggregated_attention(
            q,
            k,
            v,
            *self.pool(x),
            scale=self.scale(),
            query_embedding=self.query_embedding.flatten(1),
            local_bias=self.relative_pos_bias_local,
            **self.pool_bias(q, self.window, dropout_p),
            tokens=self.learnable_tokens,
            token_bias=self.learnable_bias.flatten(1),
            window=self.window,
            length=self.geometry.pooled_length((x.shape[1], x.shape[2])),
            dropout_p=dropout_p,
        )
        return self.proj_drop(self.proj(y.flatten(3)))


@register_notrace_module
class SelfAttention(CosineAttention):
    """Attention of every token to every token, with the same scaling and position bias (last stage, section 3.4)."""

    def __init__(
        self, dim: int, heads: int, geometry: StageGeometry,
        attn_drop: float = 0.0, proj_drop: float = 0.0, device=None, dtype=None,
    ):  # fmt: skip
        super().__init__(dim, heads, geometry, attn_drop, device, dtype)
        self.qkv = Linear(dim, 3 * dim, device=device, dtype=dtype)
        self.proj = Linear(dim, dim, device=device, dtype=dtype)
        self.proj_drop = nn.Dropout(proj_drop)
        self.reset_parameters()

    def key_size(self, size: Size) -> Size:
        return size

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        y = self.attend(q, k, v, self.attn_drop if self.training else 0.0)
        return self.proj_drop(self.proj(y.flatten(3)))


def _log(n: int, like: Tensor) -> Tensor:
    """Return log(n) as a tensor with the device and dtype of ``like``; n may be symbolic."""
    return torch.full((), n, device=like.device, dtype=like.dtype).log()


@register_notrace_module
class ConvolutionalGLU(nn.Module):
    """W2(GELU(DWConv(g)) * v) with [g, v] = W1 x: a gate over neighbouring tokens (section 3.2, equation 19)."""

    def __init__(self, dim: int, ratio: float, drop: float = 0.0, device=None, dtype=None):
        super().__init__()
        dd = dict(device=device, dtype=dtype)
        hidden = int(2 * dim * ratio / 3)
        self.fc1 = Linear(dim, 2 * hidden, **dd)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, **dd)
        self.fc2 = Linear(hidden, dim, **dd)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        y = gated_dwconv(self.fc1(x), None, self.dwconv.weight, self.dwconv.bias)
        return self.drop(self.fc2(self.drop(y)))


class Block(nn.Module):
    """Pre-norm residual block: attention, then convolutional GLU."""

    def __init__(
        self, dim: int, attn: CosineAttention, mlp_ratio: float,
        proj_drop: float = 0.0, drop_path: float = 0.0, device=None, dtype=None,
    ):  # fmt: skip
        super().__init__()
        dd = dict(device=device, dtype=dtype)
        self.norm1 = nn.LayerNorm(dim, eps=1e-6, **dd)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dim, eps=1e-6, **dd)
        self.mlp = ConvolutionalGLU(dim, mlp_ratio, proj_drop, **dd)
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
        aggregated: which stages use aggregated attention; in the others all tokens attend to all.

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
        aggregated: tuple[bool, ...] = (True, True, True, False),
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        dd = dict(device=device, dtype=dtype)
        self.aggregated = tuple(aggregated)
        self.sr_ratios = tuple(sr_ratios)
        self.window_size = _check_windows(window_size, len(depths))
        geometries = self._geometries(
            to_2tuple(img_size), to_2tuple(pretrain_size), pool_size, position_bias, length_scaling
        )
        drop_paths = calculate_drop_path_rates(drop_path_rate, list(depths), stagewise=True)

        stages = []
        for i, (dim, geometry) in enumerate(zip(embed_dims, geometries, strict=True)):
            previous = embed_dims[i - 1] if i else in_chans
            downsample = PatchEmbed(previous, dim, *((3, 2) if i else (7, 4)), **dd)
            blocks = []
            for drop_path in drop_paths[i]:
                rates = dict(attn_drop=attn_drop_rate, proj_drop=proj_drop_rate)
                attn = (
                    AggregatedAttention(dim, dim // HEAD_DIM, self.window_size[i], geometry, **rates, **dd)
                    if aggregated[i]
                    else SelfAttention(dim, dim // HEAD_DIM, geometry, **rates, **dd)
                )
                blocks.append(Block(dim, attn, mlp_ratios[i], proj_drop_rate, drop_path, **dd))
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
        if min(img_size) < 32:
            raise ValueError(f"img_size must be at least 32 x 32, got {img_size[0]} x {img_size[1]}")
        pool = None if pool_size is None else to_2tuple(pool_size)
        sizes = stage_sizes(img_size, len(self.sr_ratios))
        _check_pool(pool, [s for s, aggregated in zip(sizes, self.aggregated, strict=True) if aggregated], img_size)
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
        update_model_input_size(self, self.img_size)
        update_model_args(  # unlike the above, this stores None, which is a mode here
            self,
            pool_size=self.pool_size,
            pretrain_size=self.pretrain_size,
            position_bias=self.bias_mode,
            length_scaling=self.length_scaling,
        )

    def no_weight_decay(self) -> set[str]:
        """Return the authors' exceptions: embeddings, temperatures, local biases, and the position bias network."""
        exempt = ("query_embedding", "relative_pos_bias_local", "cpb", "temperature")
        return {name for name, _ in self.named_parameters() if any(word in name for word in exempt)}

    def init_module(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
            nn.init.zeros_(module.bias)


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


_RELEASED_NAMES = (
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
    return prepare_state_dict(state_dict, model, _RELEASED_NAMES)


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
    aggregated = dict(aggregated=(True,) * 4, sr_ratios=(16, 8, 4, 2), img_size=256, pretrain_size=256)
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
