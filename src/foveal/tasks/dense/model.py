"""What detectors and segmenters are built from: backbone, feature pyramid, and their base class.

Feature pyramid: Lin, Dollár, Girshick, He, Hariharan, Belongie, "Feature Pyramid Networks for Object Detection",
arXiv:1612.03144.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from timm.layers.format import Format
from timm.models._features import FeatureGetterNet
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.models import TransNeXt, TransXNet
from foveal.models.load_report import LoadReport
from foveal.models.loading import load_checkpoint, without_feature_norms
from foveal.models.pyramid import Pyramid
from foveal.models.weights_file import WeightsSource
from foveal.tasks.network import create_network

STAGES = 4


class DenseBackbone(nn.Module):
    """Feature maps of the four stages of any timm network, with strides 4, 8, 16 and 32.

    The network lies in ``net``; its parameters' names in a state dict begin with ``net.``. The maps of a TransXNet are
    normalised, as those of the released detectors and segmenters are, if ``args`` has no ``feature_norm``.

    Args:
        name: any model of timm that has ``features_only`` and whose last four maps have these strides.
        stages: stages whose maps are returned, from 0 (stride 4), ascending.
        pretrained: start from the released weights, downloaded from their public home.
        drop_path: stochastic depth of the deepest block, from 0 to below 1.
        frozen_stages: number of stages, counted from the input, that do not change: no gradients, batch norm and
            stochastic depth in evaluation mode.
        position_bias: for TransNeXt, ``interpolate`` (as the released detectors and segmenters were trained) or
            ``extrapolate``; other networks ignore it.
        reference_size: side of the images for which an interpolated position bias is computed, before it is resized;
            at least 32.
        args: further arguments of ``timm.create_model``.

    Raises:
        FovealError: no such network, or arguments that do not suit it.
    """

    def __init__(
        self,
        name: str,
        *,
        stages: Sequence[int] = (0, 1, 2, 3),
        pretrained: bool = False,
        drop_path: float = 0.0,
        frozen_stages: int = 0,
        position_bias: str = "interpolate",
        reference_size: int = 800,
        args: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= frozen_stages <= STAGES:
            raise FovealError(f"frozen_stages must be from 0 to {STAGES}, not {frozen_stages}.")
        if not 0 <= drop_path < 1:
            raise FovealError(f"drop_path must be at least 0 and below 1, not {drop_path}.")
        # Counted from the end, where stride 32 is: some networks show a map of stride 2 before their first stage.
        wanted = tuple(stage - STAGES for stage in stages)
        settings = {"features_only": True, "out_indices": wanted, **(args or {})}
        if drop_path:
            settings["drop_path_rate"] = drop_path
        self.name, self.frozen_stages = name, frozen_stages
        self.net = create_network(name, None, None, settings, pretrained)
        body = self.body
        if isinstance(body, TransNeXt):
            _set_position_bias(body, position_bias, reference_size)
        if isinstance(body, TransXNet) and "feature_norm" not in settings:
            body.add_feature_norms(stages)
        info: Any = self.net.feature_info
        self.channels: list[int] = info.channels()
        self.strides: list[int] = info.reduction()
        self._check_strides([4 * 2**stage for stage in stages])
        self._freeze()

    @property
    def body(self) -> nn.Module:
        """The network without timm's feature wrapper."""
        return self.net.model if isinstance(self.net, FeatureGetterNet) else self.net

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return maps (B, channels, H / stride, W / stride), rounded up, of normalised images (B, 3, H, W)."""
        maps = self.net(images)
        if getattr(self.net, "output_fmt", Format.NCHW) == Format.NHWC:  # some of timm's transformers, such as Swin
            return [m.permute(0, 3, 1, 2) for m in maps]
        return list(maps)

    def load(self, path: WeightsSource) -> LoadReport:
        """Load the weights of a classifier; the norms of maps, which it does not have, keep their initial values.

        Raises:
            FovealError: the file is missing, broken, or of another network; or this one is not of TransNeXt or
                TransXNet.
        """
        body = self.body
        if not isinstance(body, Pyramid):
            raise FovealError(
                f"foveal reads weights of TransNeXt and TransXNet from files, not of {self.name}: pass --pretrained, "
                "or a detector's file."
            )
        with without_feature_norms(body):
            return load_checkpoint(self.net, path)

    def train(self, mode: bool = True) -> "DenseBackbone":
        super().train(mode)
        if mode:
            for stage in self._frozen():
                stage.eval()
        return self

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters that the network excludes from weight decay."""
        body = self.body
        if not hasattr(body, "no_weight_decay"):
            return set()
        wanted = {id(parameter) for name, parameter in body.named_parameters() if name in body.no_weight_decay()}  # type: ignore[operator]
        return {name for name, parameter in self.named_parameters() if id(parameter) in wanted}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass, block by block, instead of keeping them."""
        self.body.set_grad_checkpointing(enable)  # type: ignore[operator]

    def _check_strides(self, wanted: list[int]) -> None:
        if self.strides != wanted:
            found, asked = (", ".join(map(str, strides)) for strides in (self.strides, wanted))
            raise FovealError(
                f"The maps of {self.name} have strides {found}, where {asked} are needed: choose a model with four "
                "stages."
            )

    def _freeze(self) -> None:
        for stage in self._frozen():
            stage.requires_grad_(False)

    def _frozen(self) -> list[nn.Module]:
        if not self.frozen_stages:
            return []
        if not isinstance(self.body, Pyramid):
            raise FovealError(f"{self.name} cannot be frozen stage by stage: leave frozen_stages out (--freeze).")
        return list(self.body.stages[: self.frozen_stages])


def _set_position_bias(net: TransNeXt, mode: str, size: int) -> None:
    try:
        net.set_input_size(size, position_bias=mode)
    except ValueError as error:
        raise FovealError(f"The position bias for images of {size} x {size} pixels: {error}.") from error


class FeaturePyramid(nn.Module):
    """Compute maps of equal channels at the backbone's strides, and optionally coarser ones.

    Args:
        in_channels: channels of the backbone's maps, from fine to coarse.
        channels: channels of all output maps.
        extra: coarser maps. "pool" adds one with every second position of the coarsest map (Mask R-CNN); "conv" adds
            two convolutions of stride 2, on the backbone's last map and on the first of the two, without activation
            between them (RetinaNet); None adds none.

    Returns:
        A list of maps (B, channels, h, w), from fine to coarse.
    """

    def __init__(self, in_channels: Sequence[int], channels: int = 256, extra: str | None = "pool") -> None:
        super().__init__()
        if extra not in ("pool", "conv", None):
            raise ValueError(f"extra must be 'pool', 'conv' or None, not {extra!r}")
        self.pools = extra == "pool"
        self.lateral = nn.ModuleList(nn.Conv2d(dim, channels, 1) for dim in in_channels)
        self.output = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        coarser = (in_channels[-1], channels) if extra == "conv" else ()
        self.extra = nn.ModuleList(nn.Conv2d(dim, channels, 3, stride=2, padding=1) for dim in coarser)
        self.apply(_init_weights)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Compute the pyramid of maps (B, in_channels[i], h, w), each at least half the size of the one before."""
        inner = [layer(m) for layer, m in zip(self.lateral, maps, strict=True)]
        for level in reversed(range(1, len(inner))):
            finer = inner[level - 1]
            inner[level - 1] = finer + F.interpolate(inner[level], size=finer.shape[-2:], mode="nearest")
        outputs = [layer(m) for layer, m in zip(self.output, inner, strict=True)]
        if self.pools:
            return [*outputs, outputs[-1][..., ::2, ::2]]
        coarse = maps[-1]
        for layer in self.extra:
            coarse = layer(coarse)
            outputs.append(coarse)
        return outputs


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]


class DenseModel(nn.Module):
    """A head on the feature maps of ``backbone``."""

    called: ClassVar[str]
    """The word for it in error messages."""

    released_renames: Sequence[tuple[str, str]] = ()
    """(pattern, replacement) from the authors' names to ours, except for the backbone; the first match counts."""

    class_layers: tuple[str, ...] = ()
    """Prefixes of parameters that belong to classes, and keep their initial values for other classes."""

    def __init__(self, backbone: DenseBackbone, num_classes: int) -> None:
        super().__init__()
        self.backbone, self.num_classes = backbone, num_classes

    def dense_pass(self, images: Tensor) -> Any:
        """Run all layers once on normalised images (B, 3, H, W), whatever their content, to count operations."""
        raise NotImplementedError

    def adapt_released(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the renamed weights of the authors in the shapes that they have here."""
        return state

    def summary(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the losses of a batch to log."""
        return {name.removeprefix("loss_"): loss.detach() for name, loss in losses.items()}

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters without weight decay, in addition to biases and norms."""
        return {f"backbone.{name}" for name in self.backbone.no_weight_decay()}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the backbone's activations in the backward pass instead of keeping them."""
        self.backbone.set_grad_checkpointing(enable)
