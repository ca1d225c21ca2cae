"""The base of both backbones: common layers, the loop over four stages, and timm's contract for a network.

A network sets ``stages`` (an nn.Sequential of modules that take and return NCHW maps), ``norm`` (applied to the last
map before the head), ``head`` (timm's ClassifierHead) and ``feature_info``; everything below follows from these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.layers import ClassifierHead, get_device_dtype
from timm.layers import trunc_normal_ as trunc_normal_in_dtype_
from timm.models import register_notrace_module
from timm.models._features import feature_take_indices
from timm.models._manipulate import MATCH_PREV_GROUP, checkpoint
from torch import Tensor, nn

from foveal.ops.linear import linear, pointwise

from .sizes import check_image, check_several

_POOLS = ("avg", "max", "avgmax", "catavgmax", "fast", "fastavg", "fastmax", "fastavgmax", "fastcatavgmax", "")


@torch.no_grad()
def trunc_normal_(tensor: Tensor, std: float) -> Tensor:
    """Fill a tensor of any floating-point dtype from a normal distribution around 0, cut off at -2 and 2.

    timm inverts the distribution in the tensor's own dtype. In half precision, one uniform number in some hundreds is
    rounded to -1 there, and its weight would be -2: a hundred times the spread of the others.
    """
    if tensor.is_meta:  # there are no weights to initialise, but PyTorch would take milliseconds per tensor
        return tensor
    sample = tensor if tensor.dtype.itemsize >= 4 else torch.empty_like(tensor, dtype=torch.float32)
    trunc_normal_in_dtype_(sample, std=std)
    return tensor if sample is tensor else tensor.copy_(sample)


@register_notrace_module
class Linear(nn.Linear):
    """``torch.nn.Linear``, computed by the fastest library available for its input."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        return linear(x, self.weight, self.bias)


@register_notrace_module
class PointwiseConv(nn.Conv2d):
    """A 1x1 convolution, computed by the fastest library available for its input."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True, **dd: Any):
        super().__init__(in_channels, out_channels, 1, bias=bias, **dd)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C_out, H, W)."""
        return pointwise(x, self.weight, self.bias)


class Stage(nn.Module):
    """One resolution: ``embed`` brings a map to it, ``transform`` runs ``blocks`` on it. All maps are NCHW."""

    downsample: nn.Module
    blocks: nn.Sequential

    def __init__(self) -> None:
        super().__init__()
        self.grad_checkpointing = False
        self.checkpoint: Callable[..., Tensor] = checkpoint

    def embed(self, x: Tensor) -> Tensor:
        """Bring the previous stage's map, or images, to this stage's resolution, for its first block."""
        raise NotImplementedError

    def transform(self, x: Tensor) -> Tensor:
        """Run the blocks on an embedded map, to this stage's output."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.transform(self.embed(x))

    def _run_blocks(self, x: Tensor, *args: Tensor) -> Tensor:
        for block in self.blocks:
            x = self.checkpoint(block, x, *args) if self.grad_checkpointing else block(x, *args)
        return x

    def feature(self, x: Tensor) -> Tensor:
        """Return the feature map of this stage's output; a family may normalise it for dense prediction."""
        return x


class Pyramid(nn.Module):
    """Base of the backbones. ``forward`` returns logits (B, num_classes), or pooled features without a classifier."""

    stages: nn.Sequential
    norm: nn.Module
    head: ClassifierHead
    feature_info: list[dict]
    input_dtype: torch.dtype | None = None  # images are converted to it on entry; None leaves them as they are

    def _init_pyramid(
        self,
        in_chans: int,
        dims: tuple[int, ...],
        num_classes: int,
        global_pool: str,
        drop_rate: float,
        use_conv: bool,
        device: torch.device | None,
        dtype: torch.dtype | None,
    ) -> None:
        """Set the attributes that timm expects of a network, and create its head."""
        _check_pool(global_pool)
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.global_pool = global_pool
        self.num_features = dims[-1]
        self.feature_info = [dict(num_chs=dim, reduction=4 * 2**i, module=f"stages.{i}") for i, dim in enumerate(dims)]
        self.head = ClassifierHead(
            dims[-1],
            num_classes,
            pool_type=global_pool,
            drop_rate=drop_rate,
            use_conv=use_conv,
            device=device,
            dtype=dtype,
        )
        self.head_hidden_size = self.head.num_features

    def init_weights(self) -> None:
        """Initialise all weights as the papers' authors do."""
        for module in self.modules():
            if module is not self and hasattr(module, "reset_parameters"):
                module.reset_parameters()
        self.apply(self.init_module)

    def init_module(self, module: nn.Module) -> None:
        """Initialise a layer as the papers' authors do, if its own ``reset_parameters`` does not."""
        raise NotImplementedError

    def adapt_state_dict(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adapt the weights in a state dict that depend on the image size to this network."""
        return state

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage's map, normalised for the head: (B, C, ceil(H/32), ceil(W/32))."""
        return self.norm(self.stages(self._enter(x)))

    def _enter(self, x: Tensor) -> Tensor:
        x = check_image(x, self.in_chans)
        if self.training:
            x = check_several(x, self._untrainable())
        if self.input_dtype is not None:
            x = x.to(self.input_dtype)
        return x.contiguous(memory_format=torch.channels_last)

    def _untrainable(self) -> int:
        """Return the largest side of a single image that batch norms here cannot be trained on; 0 if there is none."""
        return 0

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool and classify the output of ``forward_features``; with ``pre_logits`` only pool it."""
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, num_classes) of images (B, in_chans, H, W), H and W at least 32."""
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the last map and the maps of the chosen stages.

        Args:
            indices: the last n stages if an int, all if None, these stages if a sequence.
            norm: apply the final norm to the last stage's map as well.
            stop_early: do not run the stages after the last chosen one.
            output_fmt: layout of the chosen maps, "NCHW" or "NHWC".
            intermediates_only: return only the list of chosen maps.
        """
        if output_fmt not in ("NCHW", "NHWC"):
            raise ValueError(f"output_fmt must be NCHW or NHWC, got {output_fmt!r}")
        taken, last = feature_take_indices(len(self.stages), indices)
        x = self._enter(x)
        maps = []
        for i, stage in enumerate(self.stages):
            if stop_early and i > last:
                break
            x = stage(x)
            final = i == len(self.stages) - 1
            if i in taken:
                maps.append(self.norm(x) if norm and final else stage.feature(x))
        if output_fmt == "NHWC":
            maps = [m.permute(0, 2, 3, 1) for m in maps]
        if intermediates_only:
            return maps
        return self.norm(x) if final else x, maps

    def hidden_maps(self, x: Tensor, count: int = 5) -> list[Tensor]:
        """Return the first ``count`` of the stem's map and the stages' outputs.

        These are the inputs of the next part, without the norms of feature maps.
        """
        first = self.stages[0]
        maps = [first.embed(self._enter(x))]
        for stage in self.stages[: count - 1]:
            maps.append(stage.transform(maps[0]) if stage is first else stage(maps[-1]))
        return maps

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove the stages after the last chosen one, and all that depends on them; return the chosen indices."""
        taken, last = feature_take_indices(len(self.stages), indices)
        shortened = last < len(self.stages) - 1
        self.stages = self.stages[: last + 1]
        if prune_norm or shortened:
            self.norm = nn.Identity()
        if shortened:
            self.num_features = self.head_hidden_size = self.feature_info[last]["num_chs"]
        if prune_head or shortened:
            self.reset_classifier(0, "")
        return taken

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a newly initialised one; 0 classes removes it, and None keeps the pooling."""
        if global_pool is not None:
            _check_pool(global_pool)
            self.global_pool = global_pool
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool, in_features=self.num_features, **get_device_dtype(self))
        self.head.fc.apply(self.init_module)
        self.head_hidden_size = self.head.num_features

    def set_grad_checkpointing(self, enable: bool = True, function: Callable[..., Tensor] = checkpoint) -> None:
        """Recompute activations in the backward pass, block by block, instead of storing them.

        Args:
            enable: switch it on or off.
            function: called as ``function(block, *inputs)``; timm's, or ``torch.utils.checkpoint.checkpoint`` with
                its options set.
        """
        for stage in self.stages:
            stage.grad_checkpointing, stage.checkpoint = enable, function

    def group_matcher(self, coarse: bool = False) -> dict:
        """Return timm's patterns that group parameters into layers, for layer-wise learning rates."""
        stem = r"^stages\.0\.(?:downsample|position_embedding)"
        if coarse:
            return dict(stem=stem, blocks=r"^stages\.(\d+)")
        return dict(
            stem=stem,
            blocks=[
                (r"^stages\.(\d+)\.(?:downsample|position_bias|position_embedding|class_token)", (0,)),
                (r"^stages\.(\d+)\.blocks\.(\d+)", None),
                (r"^stages\.(\d+)\.(?:norm|feature_norm)", MATCH_PREV_GROUP),
                (r"^norm", MATCH_PREV_GROUP),
            ],
        )

    def no_weight_decay(self) -> set[str]:
        """Return names of parameters without weight decay, in addition to 1-D parameters, which timm exempts itself."""
        return set()


def check_per_stage(stages: int, **settings: Any) -> None:
    """Raise ValueError for the first setting that does not have one number per stage."""
    for name, value in settings.items():
        if not isinstance(value, tuple | list) or len(value) != stages:
            raise ValueError(f"{name} must be {stages} numbers, one per stage, got {value!r}")


def _check_pool(global_pool: str) -> None:
    if global_pool not in _POOLS:
        raise ValueError(f"unknown global_pool {global_pool!r}: choose one of {', '.join(map(repr, _POOLS))}")
