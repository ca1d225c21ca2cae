"""Configurations of the backbones for transformers: network, arguments and feature maps."""

from functools import cache
from typing import Any, ClassVar

import timm
import torch
from transformers import PreTrainedConfig
from transformers.backbone_utils import BackboneConfigMixin

from foveal.errors import FovealError
from foveal.models.transnext import default_cfgs as transnext_cfgs
from foveal.models.transxnet import default_cfgs as transxnet_cfgs
from foveal.near import did_you_mean

Sides = int | list[int] | tuple[int, ...]  # plain types, which JSON keeps

STAGES = 4


class PyramidConfig(BackboneConfigMixin, PreTrainedConfig):
    """Base of both families' configurations.

    Args:
        model_name: a network of the family for ``timm.create_model``, with or without the tag of its weights.
        num_channels: channels of the images.
        drop_path_rate, proj_drop_rate, attn_drop_rate: as in timm.
        out_features, out_indices: the maps that a backbone returns, by name (``stage_names``) or index; one of the two
            is enough. "stem" is the input of the first stage's blocks, at stride 4; "stage1" to "stage4" are the
            stages' maps, at strides 4 to 32. The default is the last map.

    Raises:
        FovealError: there is no such network, or it does not take these arguments.
    """

    names: ClassVar[tuple[str, ...]]
    passed_on: ClassVar[tuple[str, ...]] = ("drop_path_rate", "proj_drop_rate", "attn_drop_rate")

    model_name: str = ""
    num_channels: int = 3
    drop_path_rate: float = 0.0
    proj_drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.stage_names = ["stem", *(f"stage{i}" for i in range(1, STAGES + 1))]
        self.set_output_features_output_indices(
            out_features=kwargs.pop("out_features", None), out_indices=kwargs.pop("out_indices", None)
        )
        self._check_network()
        super().__post_init__(**kwargs)

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of ``timm.create_model`` for the network without a classifier; None is left to the network."""
        given = {name: getattr(self, name) for name in self.passed_on}
        plain = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items() if v is not None}
        return {"num_classes": 0, "in_chans": self.num_channels, **plain}

    @property
    def hidden_sizes(self) -> list[int]:
        """Channels of the four stages' maps."""
        return list(_channels(self.model_name, tuple(self.arguments.items())))

    @property
    def hidden_size(self) -> int:
        """Channels of the last map."""
        return self.hidden_sizes[-1]

    def _check_network(self) -> None:
        kind = type(self).__name__
        if self.model_name.partition(".")[0] not in self.names:
            near = did_you_mean(self.model_name, self.names, most=1)
            raise FovealError(f"{kind} has no model {self.model_name!r}{near}: choose one of {', '.join(self.names)}.")
        try:
            _channels(self.model_name, tuple(self.arguments.items()))
        except (ValueError, TypeError, RuntimeError) as error:
            sentence = str(error).partition("\n")[0].rstrip(".")
            raise FovealError(f"{kind}: {self.model_name} cannot be created like this: {sentence}.") from error


class TransNeXtConfig(PyramidConfig):
    """A TransNeXt backbone; its arguments are the network's, see ``foveal.TransNeXt`` and ``PyramidConfig``.

    Args:
        model_name: "transnext_tiny" and so on.
        img_size: size at which an interpolated position bias is computed, before it is resized; images may have any
            size.
        pretrain_size: size of the images in pre-training; None for the network's default.
        window_size, pool_size, length_scaling: settings of the attention.
        position_bias: "extrapolate", or "interpolate" as the released detectors (``img_size`` 800) and segmenters (512)
            were trained.
    """

    model_type = "foveal_transnext"
    names = tuple(transnext_cfgs)
    passed_on = (
        *PyramidConfig.passed_on,
        *("img_size", "pretrain_size", "window_size", "pool_size", "position_bias", "length_scaling"),
    )

    model_name: str = "transnext_tiny"
    img_size: Sides | None = None
    pretrain_size: Sides | None = None
    window_size: Sides = 3
    pool_size: Sides | None = None
    position_bias: str = "extrapolate"
    length_scaling: bool = True


class TransXNetConfig(PyramidConfig):
    """A TransXNet backbone; its arguments are the network's, see ``foveal.TransXNet`` and ``PyramidConfig``.

    Args:
        model_name: "transxnet_t" and so on.
        img_size: size of the learned position tables, which are resized at other sizes; None for that of the weights.
        feature_norm: apply a GroupNorm to every returned map, as the released detectors and segmenters do.
    """

    model_type = "foveal_transxnet"
    names = tuple(transxnet_cfgs)
    passed_on = (*PyramidConfig.passed_on, "img_size")

    model_name: str = "transxnet_t"
    img_size: Sides | None = None
    feature_norm: bool = True


@cache
def _channels(name: str, arguments: tuple[tuple[str, Any], ...]) -> tuple[int, ...]:
    """Return the channels of a network's four maps, from a copy on the meta device with one block per stage."""
    with torch.device("meta"):
        net: Any = timm.create_model(name, depths=(1,) * STAGES, device="meta", **dict(arguments))
    return tuple(info["num_chs"] for info in net.feature_info)
