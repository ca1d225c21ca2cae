"""Places in a network whose map can be looked at: stages, the branches of a D-Mixer, and layers for Grad-CAM.

A ``Layer`` states the memory layout of its map, which cannot be inferred from the shape: a block of a TransNeXt returns
(B, H, W, C), a stage (B, C, H, W). Libraries that assume the latter (captum, grad-cam) return a wrong map for a block
without an error; ``cam_layer`` returns the module to pass to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.models.layers.d_mixer import DMixer
from foveal.models.pyramid import Pyramid, Stage
from foveal.models.transnext import TransNeXt
from foveal.models.transxnet import TokenBlock, TransXNet
from foveal.near import did_you_mean

Layout = Literal["NCHW", "NHWC"]
Side = Literal["output", "input"]
STAGES = 4
BRANCH_STAGE = 2  # the third stage: the deepest one of many blocks


@dataclass(frozen=True)
class Layer:
    """A place in a network: the output or the input of a module.

    Attributes:
        module: the module, or its name in the network, such as "layers.2.blocks.5".
        layout: "NCHW" for maps (B, C, H, W), "NHWC" for (B, H, W, C).
        side: "output", or "input" for the module's first argument.

    Raises:
        FovealError: another layout or side.
    """

    module: nn.Module | str
    layout: Layout = "NCHW"
    side: Side = "output"

    def __post_init__(self) -> None:
        if self.layout not in ("NCHW", "NHWC"):
            raise FovealError(f'The layout of a layer must be "NCHW" or "NHWC", not {self.layout!r}.')
        if self.side not in ("output", "input"):
            raise FovealError(f'The side of a layer must be "output" or "input", not {self.side!r}.')

    def find(self, net: nn.Module) -> nn.Module:
        """Return the module; raise FovealError if the network does not have it."""
        if isinstance(self.module, str):
            try:
                return net.get_submodule(self.module)
            except AttributeError:
                near = did_you_mean(self.module, [name for name, _ in net.named_modules()])
                raise FovealError(
                    f"This {type(net).__name__} has no module {self.module!r}{near}: net.named_modules() lists all."
                ) from None
        if not any(self.module is module for module in net.modules()):
            raise FovealError(
                f"The {type(self.module).__name__} is not a part of this {type(net).__name__}: pass one of its modules."
            )
        return self.module

    def channels_first(self, value: Any) -> Tensor:
        """Return the map as (B, C, H, W); raise FovealError if it is no map."""
        if not isinstance(value, Tensor) or value.ndim != 4:
            what = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise FovealError(f"A layer's {self.side} must be a map of four dimensions, and this is {what}.")
        return value.permute(0, 3, 1, 2) if self.layout == "NHWC" else value


def stage_layers(net: nn.Module) -> dict[str, Layer]:
    """Return the map of each stage of a TransNeXt or TransXNet, by name: "stage 1", "stage 2" and so on.

    A TransNeXt's is that of its last block, before the LayerNorm that ends the stage. timm's Swin and ConvNeXt return
    their maps before such a norm too. After it the sum over channels is the same for all images while all gains of the
    norm are equal, as in an untrained network: its gradient would be rounding errors.

    Raises:
        FovealError: the network is neither.
    """
    stages: Any = _ours(net).stages
    if isinstance(net, TransNeXt):
        places = [Layer(stage.blocks[-1], "NHWC") for stage in stages]
    else:
        places = [Layer(stage) for stage in stages]
    return {f"stage {number}": place for number, place in enumerate(places, 1)}


def branch_layers(net: nn.Module, stage: int = BRANCH_STAGE, block: int = -1) -> dict[str, Layer]:
    """Return the maps of a TransXNet's D-Mixer (figure 8 of its paper): "IDConv", "OSRA", and "STE".

    The first two have half of the channels each. The last is the squeezed token enhancer with its identity, before the
    block's layer scale.

    Args:
        net: a TransXNet.
        stage: index from 0, as in ``net.stages``; negative ones count from the end.
        block: index of the block in the stage, likewise.

    Raises:
        FovealError: another network, one folded by ``foveal.optimize``, no such stage or block.
    """
    if not isinstance(net, TransXNet):
        raise FovealError(f"Only TransXNet has D-Mixers, and this is a {type(net).__name__}: use a transxnet_* model.")
    blocks: Any = _item(_stage(net, stage).blocks, block, "block")
    if isinstance(blocks, TokenBlock):
        raise FovealError("This TransXNet was created with another token_mixer than the D-Mixer, and has no branches.")
    if not isinstance(blocks.token_mixer, DMixer):
        raise FovealError("The D-Mixers of this TransXNet are folded for inference: pass the network before optimize.")
    mixer = blocks.token_mixer
    return {
        "IDConv": Layer(mixer.local_unit),
        "OSRA": Layer(mixer.global_unit),
        "STE": Layer(blocks.layer_scale_1, side="input"),
    }


def cam_layer(net: nn.Module, stage: int = -1) -> nn.Module:
    """Return the module whose output is the (B, C, H, W) map of a stage, for hooks, captum and grad-cam.

    It is the stage itself. A TransNeXt's blocks, and the norm at the end of its stages, give (B, H, W, C).

    Args:
        net: a TransNeXt or TransXNet.
        stage: index from 0, as in ``net.stages``; negative ones count from the end.

    Raises:
        FovealError: another network, or no such stage.
    """
    return _stage(_ours(net), stage)


def stage_layer(net: nn.Module, stage: int = -1) -> Layer:
    """Return the map of one stage: of our networks as ``cam_layer``, of others where timm's ``feature_info`` names it.

    Of others the last four maps count as stages, as for receptive fields; a ResNet's stem is none.

    Args:
        net: a TransNeXt, a TransXNet, or a network of timm.
        stage: index from 0; negative ones count from the end.

    Raises:
        FovealError: a network whose stages are not known, or no such stage.
    """
    info = _maps(net)
    if info is None:
        return Layer(cam_layer(net, stage))
    if not -len(info) <= stage < len(info):
        raise FovealError(f"There is no stage {stage} among {len(info)}: indices are {-len(info)} to {len(info) - 1}.")
    layout = "NHWC" if str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC") else "NCHW"
    return Layer(info[stage]["module"], cast(Layout, layout))


def stage_count(net: nn.Module) -> int | None:
    """Return the number of stages that ``stage_layer`` knows; None for networks without maps of several sizes."""
    if isinstance(net, Pyramid):
        return len(net.stages)
    info = _maps(net)
    return None if info is None else len(info)


def named_layer(net: nn.Module, name: str) -> Layer:
    """Return the output of a module by name. In a TransNeXt all but stages and convolutions give (B, H, W, C)."""
    layer = Layer(name)
    module = layer.find(net)
    inside = isinstance(net, TransNeXt) and name.startswith("stages.") and not isinstance(module, Stage | nn.Conv2d)
    return Layer(name, "NHWC") if inside else layer


def _maps(net: nn.Module) -> list[dict[str, Any]] | None:
    """Return what timm says of the last four maps of a network that is not ours; None if it has no such maps."""
    info: Any = getattr(net, "feature_info", None)
    if isinstance(net, Pyramid) or not isinstance(info, list) or not all("module" in one for one in info):
        return None
    last = info[-STAGES:]
    return last if len({one["reduction"] for one in last}) > 1 else None


def _ours(net: nn.Module) -> Pyramid:
    if not isinstance(net, Pyramid):
        raise FovealError(
            f"The layers of a {type(net).__name__} are not known: pass a TransNeXt or TransXNet, or name the layer."
        )
    return net


def _stage(net: Pyramid, stage: int) -> Any:
    return _item(net.stages, stage, "stage")


def _item(modules: nn.Sequential, index: int, noun: str) -> nn.Module:
    count = len(modules)
    if not -count <= index < count:
        raise FovealError(f"There is no {noun} {index} among {count}: indices are {-count} to {count - 1}.")
    return modules[index]
