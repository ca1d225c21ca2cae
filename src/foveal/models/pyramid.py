"""What every four-stage backbone here shares: the loop over its stages, and timm's contract for a network.

A network sets `stages` (an nn.Sequential whose members take and return NCHW maps), `norm` (applied to the last map
before the head), `head` (timm's ClassifierHead) and `feature_info`; everything below follows from these.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from timm.layers import ClassifierHead, get_device_dtype
from timm.models import register_notrace_function
from timm.models._features import feature_take_indices
from timm.models._manipulate import MATCH_PREV_GROUP, checkpoint
from torch import Tensor, nn

MIN_SIZE = 32  # pixels: the last stage has a stride of 32
_POOLS = ("avg", "max", "avgmax", "catavgmax", "fast", "fastavg", "fastmax", "fastavgmax", "fastcatavgmax", "")


@register_notrace_function
def check_image(x: Tensor, in_chans: int) -> Tensor:
    """x, or a ValueError if it is not a (B, in_chans, H, W) batch of images of at least 32 x 32 pixels."""
    if x.ndim != 4 or x.shape[1] != in_chans:
        raise ValueError(f"expected images of shape (batch, {in_chans}, height, width), got {tuple(x.shape)}")
    # An exported program states its own size range; a check here would only narrow it.
    if not torch.compiler.is_exporting() and (x.shape[2] < MIN_SIZE or x.shape[3] < MIN_SIZE):
        raise ValueError(
            f"images must be at least {MIN_SIZE} x {MIN_SIZE} pixels, got {x.shape[2]} x {x.shape[3]}; enlarge them"
        )
    return x


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up: what a strided convolution with these nets' padding makes of a side."""
    return (a + b - 1) // b


def stage_sizes(img_size: tuple[int, int], stages: int = 4) -> list[tuple[int, int]]:
    """(H, W) of every stage's map for an image of `img_size`: strides 4, 8, 16, 32, each convolution rounding up."""
    sizes = [(ceil_div(img_size[0], 4), ceil_div(img_size[1], 4))]
    for _ in range(stages - 1):
        sizes.append((ceil_div(sizes[-1][0], 2), ceil_div(sizes[-1][1], 2)))
    return sizes


class Stage(nn.Module):
    """One resolution: `embed` brings a map to it, `transform` runs `blocks` on it. All take and return NCHW maps."""

    downsample: nn.Module
    blocks: nn.Sequential

    def __init__(self) -> None:
        super().__init__()
        self.grad_checkpointing = False
        self.checkpoint: Callable[..., Tensor] = checkpoint

    def embed(self, x: Tensor) -> Tensor:
        """The map before this stage (or images), at this stage's resolution: what its first block takes."""
        raise NotImplementedError

    def transform(self, x: Tensor) -> Tensor:
        """What the blocks make of an embedded map: this stage's output."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.transform(self.embed(x))

    def _run_blocks(self, x: Tensor, *args: Tensor) -> Tensor:
        for block in self.blocks:
            x = self.checkpoint(block, x, *args) if self.grad_checkpointing else block(x, *args)
        return x

    def feature(self, x: Tensor) -> Tensor:
        """What is shown of this stage's output x as a feature map; a family may normalise it for dense prediction."""
        return x


class Pyramid(nn.Module):
    """Base of the backbones. `forward` gives logits (B, num_classes), or features where there is no classifier."""

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
        """Record what timm asks of a network and make its head."""
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
        """Draw all weights anew as the papers' authors do."""
        for module in self.modules():
            if module is not self and hasattr(module, "reset_parameters"):
                module.reset_parameters()
        self.apply(self.init_module)

    def init_module(self, module: nn.Module) -> None:
        """Draw the weights of a layer as the papers' authors do, where its own `reset_parameters` does it otherwise."""
        raise NotImplementedError

    def adapt_state_dict(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A loaded state dict with what depends on the image size fitted to this net."""
        return state

    def forward_features(self, x: Tensor) -> Tensor:
        """The last stage's map, normalised for the head: (B, C, ceil(H/32), ceil(W/32))."""
        return self.norm(self.stages(self._enter(x)))

    def _enter(self, x: Tensor) -> Tensor:
        x = check_image(x, self.in_chans)
        if self.input_dtype is not None:
            x = x.to(self.input_dtype)
        return x.contiguous(memory_format=torch.channels_last)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool and classify a map of `forward_features`; with `pre_logits` only pool it."""
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, num_classes) of images (B, in_chans, H, W), H and W at least 32."""
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
        """The last map and the maps of the chosen stages.

        Args:
            indices: the last n stages if an int, all if None, those named if a sequence.
            norm: apply the final norm to the last stage's map as well.
            stop_early: do not run the stages behind the last one chosen.
            output_fmt: "NCHW" or "NHWC", of the chosen maps.
            intermediates_only: return their list alone.
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
        """The stem's map and each stage's output, the first `count` of them, as the next part takes them: without the
        norms that only a feature map has."""
        first = self.stages[0]
        maps = [first.embed(self._enter(x))]
        for stage in self.stages[: count - 1]:
            maps.append(stage.transform(maps[0]) if stage is first else stage(maps[-1]))
        return maps

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the stages behind the last one chosen, and with them what only they feed. Returns the chosen indices."""
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
        """The last layer."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one, freshly initialised; 0 classes removes it. None keeps the pooling."""
        if global_pool is not None:
            _check_pool(global_pool)
            self.global_pool = global_pool
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool, in_features=self.num_features, **get_device_dtype(self))
        self.head.fc.apply(self.init_module)
        self.head_hidden_size = self.head.num_features

    def set_grad_checkpointing(self, enable: bool = True, function: Callable[..., Tensor] = checkpoint) -> None:
        """Compute activations again in the backward pass, block by block, instead of keeping them.

        `function(block, *inputs)` does it: timm's, or `torch.utils.checkpoint.checkpoint` with options of its own.
        """
        for stage in self.stages:
            stage.grad_checkpointing, stage.checkpoint = enable, function

    def group_matcher(self, coarse: bool = False) -> dict:
        """How parameters fall into layers, from input to output: for layer-wise learning rates."""
        if coarse:
            return dict(stem=r"^stages\.0\.downsample", blocks=r"^stages\.(\d+)")
        return dict(
            stem=r"^stages\.0\.downsample",
            blocks=[
                (r"^stages\.(\d+)\.(?:downsample|position_bias)", (0,)),
                (r"^stages\.(\d+)\.blocks\.(\d+)", None),
                (r"^stages\.(\d+)\.(?:norm|feature_norm)", MATCH_PREV_GROUP),
                (r"^norm", MATCH_PREV_GROUP),
            ],
        )

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that are not decayed (beside biases and 1-D parameters, which timm exempts itself)."""
        return set()


def _check_pool(global_pool: str) -> None:
    if global_pool not in _POOLS:
        raise ValueError(f"unknown global_pool {global_pool!r}: choose one of {', '.join(map(repr, _POOLS))}")
