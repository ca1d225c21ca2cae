"""PVT, the starting point of TransNeXt's roadmap: spatial-reduction attention, learned positions and a class token.

Wang et al., "Pyramid Vision Transformer: A Versatile Backbone for Dense Prediction without Convolutions", ICCV 2021,
arXiv:2102.12122. timm has its successor PVTv2 alone, which is step 1 of the roadmap (``pvt_v2_b1``).
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d, calculate_drop_path_rates
from timm.models import generate_default_cfgs, register_model
from timm.models._input import update_model_input_size
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true

from foveal.types import Size

from .layers.depthwise import fill_cells
from .layers.spatial_reduction import SpatialReductionAttention
from .loading import prepare_state_dict
from .pyramid import Pyramid, Stage, check_per_stage, trunc_normal_
from .registration import build_backbone, classification_cfg
from .sizes import StageGeometry, check_img_size, stage_sizes
from .transnext import RELEASED_NAMES, Block


class PatchEmbed(nn.Module):
    """Convolution of patches that do not overlap, and LayerNorm. Zeros fill up the patches of the last row and column.

    (B, C, H, W) to (B, dim, H / side, W / side), rounded up.
    """

    def __init__(self, in_chans: int, dim: int, side: int, **dd: Any):
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, side, side, **dd)
        self.norm = nn.LayerNorm(dim, **dd)

    def forward(self, x: Tensor) -> Tensor:
        side = self.proj.stride[0]
        x = self.proj(fill_cells(x, side))
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PVTStage(Stage):
    """Patch embedding, learned positions, blocks. Only the last stage has a class token, which comes first.

    Args:
        downsample: the patch embedding.
        blocks: of tokens (B, H, W, C).
        size: (H, W) of the map at the network's ``img_size``.
        dim: channels.
        class_token: whether there is one.
    """

    def __init__(self, downsample: PatchEmbed, blocks: list[Block], size: Size, dim: int, class_token: bool, **dd: Any):
        super().__init__()
        self.downsample = downsample
        self.size = size
        self.class_token = nn.Parameter(torch.empty(1, 1, dim, **dd)) if class_token else None
        self.position_embedding = nn.Parameter(torch.empty(1, class_token + size[0] * size[1], dim, **dd))
        self.blocks = nn.Sequential(*blocks)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the parameters that do not belong to a layer."""
        trunc_normal_(self.position_embedding, std=0.02)
        if self.class_token is not None:
            trunc_normal_(self.class_token, std=0.02)

    def embed(self, x: Tensor) -> Tensor:
        return self.downsample(x)

    def transform(self, x: Tensor) -> Tensor:
        size = (x.shape[2], x.shape[3])
        if self.class_token is not None:
            return self.tokens(x)[:, 1:].transpose(1, 2).unflatten(2, size)
        x = x.permute(0, 2, 3, 1) + self._positions(size).unflatten(1, size)
        return self._run_blocks(x).permute(0, 3, 1, 2)

    def tokens(self, x: Tensor) -> Tensor:
        """Run the blocks on an embedded map (B, C, H, W), to the class token and all others: (B, 1 + H*W, C)."""
        assert self.class_token is not None
        tokens = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x.flatten(2).transpose(1, 2)], 1)
        tokens = tokens + self._positions((x.shape[2], x.shape[3]))
        return self._run_blocks(tokens[:, None])[:, 0]  # blocks take maps: one of a single row

    def forward(self, x: Tensor, tokens: bool = False) -> Tensor:
        """Return the stage's map (B, C, H, W), or with ``tokens`` what ``PVTStage.tokens`` returns."""
        x = self.embed(x)
        return self.tokens(x) if tokens else self.transform(x)

    def resize(self, size: Size) -> None:
        """Resize the learned positions for maps of ``size``."""
        with torch.no_grad():
            resized = _resize_positions(self.position_embedding, self.size, size)
        self.position_embedding = nn.Parameter(resized, requires_grad=self.position_embedding.requires_grad)
        self.size = size

    def _positions(self, size: Size) -> Tensor:
        """Return the learned positions for a map of ``size``, resized bilinearly from those at ``img_size``."""
        return _resize_positions(self.position_embedding, self.size, size)


class PVT(Pyramid):
    """The PVT backbone and classifier.

    Args:
        img_size: size of the images (int or pair) that the learned positions are for. Images of other sizes get them
            resized bilinearly.
        in_chans, num_classes, drop_rate, proj_drop_rate, attn_drop_rate, drop_path_rate: as in timm.
        global_pool: "token" for the class token, "avg" for the mean of all others, "" for all tokens.
        depths, embed_dims, mlp_ratios, sr_ratios: one per stage.
        num_heads: heads of attention, one number per stage.

    Input: (B, in_chans, H, W), H and W at least 32. ``forward_features`` returns (B, 1 + tokens, channels), the class
        token first, as timm's vision transformers do; feature maps are without it.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "token",
        depths: tuple[int, ...] = (2, 2, 2, 2),
        embed_dims: tuple[int, ...] = (64, 128, 320, 512),
        num_heads: tuple[int, ...] = (1, 2, 5, 8),
        mlp_ratios: tuple[float, ...] = (8, 8, 4, 4),
        sr_ratios: tuple[int, ...] = (8, 4, 2, 1),
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        dd: dict[str, Any] = dict(device=device, dtype=dtype)
        self.img_size = check_img_size(img_size)
        settings = dict(embed_dims=embed_dims, num_heads=num_heads, mlp_ratios=mlp_ratios, sr_ratios=sr_ratios)
        check_per_stage(len(depths), **settings)
        if sr_ratios[-1] != 1:
            raise ValueError(f"the last of sr_ratios must be 1: a class token is no part of a map, got {sr_ratios}")
        drop_paths = calculate_drop_path_rates(drop_path_rate, list(depths), stagewise=True)
        stages = []
        for i, (dim, heads, size) in enumerate(zip(embed_dims, num_heads, stage_sizes(self.img_size), strict=True)):
            if dim % heads:
                raise ValueError(f"num_heads must divide embed_dims, and {heads} does not divide {dim}")
            geometry = StageGeometry(size, size, sr_ratios[i])
            blocks = [
                Block(
                    dim,
                    SpatialReductionAttention(dim, heads, geometry, attn_drop_rate, proj_drop_rate, **dd),
                    mlp_ratios[i],
                    proj_drop_rate,
                    drop_path,
                    "mlp",
                    **dd,
                )
                for drop_path in drop_paths[i]
            ]
            downsample = PatchEmbed(embed_dims[i - 1] if i else in_chans, dim, 2 if i else 4, **dd)
            stages.append(PVTStage(downsample, blocks, size, dim, i == len(depths) - 1, **dd))
        self.stages = nn.Sequential(*stages)
        self.norm: nn.Module = LayerNorm2d(embed_dims[-1], eps=1e-6, **dd)
        pooling = _checked_pool(global_pool)
        self._init_pyramid(in_chans, tuple(embed_dims), num_classes, pooling, drop_rate, False, device, dtype)
        self.global_pool = global_pool
        self.init_weights()

    def forward_features(self, x: Tensor) -> Tensor:
        """Return normalised tokens (B, 1 + H*W, C) of the last stage; the map (B, C, H, W) where it was pruned."""
        x = self._enter(x)
        for stage in self.stages[:-1]:
            x = stage(x)
        if self.stages[-1].class_token is None:
            return self.norm(self.stages[-1](x))
        return self._normed(self.stages[-1](x, tokens=True))

    def _normed(self, tokens: Tensor) -> Tensor:
        return self.norm(tokens.transpose(1, 2)[..., None])[..., 0].transpose(1, 2)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool and classify the output of ``forward_features``; with ``pre_logits`` only pool it."""
        if x.ndim == 4:
            return self.head(x, pre_logits=pre_logits)
        if self.global_pool:
            x = x[:, :1] if self.global_pool == "token" else x[:, 1:]
            return self.head(x.transpose(1, 2)[..., None], pre_logits=pre_logits)
        return x if pre_logits else self.head.fc(self.head.drop(x))

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a newly initialised one; 0 classes removes it, and None keeps the pooling."""
        asked = self.global_pool if global_pool is None else global_pool
        super().reset_classifier(num_classes, _checked_pool(asked))
        self.global_pool = asked

    def set_input_size(self, img_size: int | Size) -> None:
        """Resize the learned positions for images of ``img_size``."""
        self.img_size = check_img_size(img_size)
        for stage, size in zip(self.stages, stage_sizes(self.img_size), strict=False):  # pruned nets have fewer stages
            stage.resize(size)
        update_model_input_size(self, self.img_size)

    def no_weight_decay(self) -> set[str]:
        """Return the authors' exception, the class token."""
        return {name for name, _ in self.named_parameters() if name.endswith(".class_token")}

    def init_module(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)

    def adapt_state_dict(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Resize the learned positions of square images to those of this network's ``img_size``."""
        adapted = {}
        for i, stage in enumerate(self.stages):
            name, ours = f"stages.{i}.position_embedding", stage.position_embedding
            if name in state and state[name].shape[1] != ours.shape[1]:
                side = math.isqrt(state[name].shape[1])  # the class token is too little to change the root
                adapted[name] = _resize_positions(state[name], (side, side), stage.size)
        return {**state, **adapted}


def _checked_pool(global_pool: str) -> str:
    """Return the pooling of the head, which gets the class token, or all others, as a map."""
    if global_pool not in ("token", "avg", ""):
        raise ValueError(f'global_pool of a PVT must be "token", "avg" or "", got {global_pool!r}')
    return "avg" if global_pool else ""


def _resize_positions(positions: Tensor, old: Size, new: Size) -> Tensor:
    """Resize positions (1, tokens, C) of a map of ``old`` size bilinearly, and keep those of a class token before it.

    Positions of a map of another size are returned as they are.
    """
    first = positions.shape[1] - old[0] * old[1]
    known = all(statically_known_true(ours == asked) for ours, asked in zip(old, new, strict=True))
    if known or first not in (0, 1):
        return positions
    grid = positions[:, first:].transpose(1, 2).unflatten(2, old)
    resized = F.interpolate(grid, size=new, mode="bilinear", align_corners=False)
    return torch.cat([positions[:, :first], resized.flatten(2).transpose(1, 2)], 1)


_RELEASED_NAMES = (
    (re.compile(r"^pos_embed(\d)$"), lambda m: f"stages.{int(m[1]) - 1}.position_embedding"),
    (re.compile(r"^cls_token$"), lambda m: "stages.3.class_token"),
    *RELEASED_NAMES,
)


def checkpoint_filter_fn(state_dict: dict[str, Any], model: nn.Module) -> dict[str, Tensor]:
    """Return a state dict with this module's names from the content of a file in the naming of PVT's authors or ours.

    Raises:
        CheckpointError: part of ``model`` would stay unloaded, except the classifier and the first convolution, which
            timm adapts.
    """
    return prepare_state_dict(state_dict, model, _RELEASED_NAMES)


default_cfgs = generate_default_cfgs({"pvt_tiny.untrained": classification_cfg(pool_size=(7, 7))})


@register_model
def pvt_tiny(pretrained: bool = False, **kwargs: Any) -> PVT:
    """PVT-Tiny: step 0 of TransNeXt's roadmap, 13.2 M parameters."""
    return build_backbone(PVT, "pvt_tiny", pretrained, kwargs)
