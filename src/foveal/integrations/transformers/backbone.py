"""The backbones for transformers' heads, and loading released weights into them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import timm
import torch
from timm.models import load_pretrained
from timm.models._manipulate import checkpoint
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.backbone_utils import BackboneMixin
from transformers.modeling_outputs import BackboneOutput

from foveal.errors import FovealError
from foveal.integrations.transformers.config import STAGES, PyramidConfig, TransNeXtConfig, TransXNetConfig
from foveal.models import TransXNet
from foveal.models.fetching import fetching
from foveal.models.loading import filter_of, load_checkpoint, without_feature_norms
from foveal.models.pyramid import Pyramid, Stage
from foveal.models.weights_file import WeightsSource


class PyramidBackbone(BackboneMixin, PreTrainedModel):
    """Base of both families' backbones. ``net`` is the network as timm creates it, without norm and classifier.

    Recomputation of activations (``gradient_checkpointing_enable``) is the network's own, block by block, with
    transformers' function.
    """

    net: Pyramid
    main_input_name = "pixel_values"
    input_modalities = ["image"]
    supports_gradient_checkpointing = True
    has_attentions = False  # the fused operators keep none
    _supports_sdpa = _supports_flash_attn = True  # these networks ignore a head's choice
    _gradient_checkpointing_func: Callable[..., Tensor] = staticmethod(checkpoint)

    def __init__(self, config: PyramidConfig) -> None:
        super().__init__(config)
        self.net = _create(config)
        self.num_features = [config.hidden_sizes[0], *config.hidden_sizes]
        self._prepare_features()
        if not next(self.net.parameters()).is_meta:
            for module in self.net.modules():  # initialised on creation; transformers need not do it again
                module._is_hf_initialized = True  # type: ignore[assignment]
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load a saved backbone, as in transformers, and copy its weights to aligned memory.

        safetensors maps weights at any address of the file, and PyTorch's libraries round differently by alignment:
        outputs would differ in the last bit from those of the saved backbone.
        """
        loaded = super().from_pretrained(*args, **kwargs)
        backbone = loaded[0] if isinstance(loaded, tuple) else loaded  # a tuple if loading info was requested
        for tensor in (*backbone.parameters(), *backbone.buffers()):
            tensor.data = tensor.data.clone()
        return loaded

    def _prepare_features(self) -> None:
        """Add to the network what only feature maps need."""

    def forward(
        self,
        pixel_values: Tensor,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> BackboneOutput | tuple[tuple[Tensor, ...], ...]:
        """Return the chosen maps of normalised images.

        Args:
            pixel_values: (B, num_channels, H, W), H and W at least 32 and otherwise free.
            output_hidden_states: also return the maps of the stem and all stages, as the next part takes them; the
                default is the configuration's.
            output_attentions: not available, since the fused operators keep no attention.
            return_dict: False for a tuple; the default is the configuration's.

        Returns:
            ``feature_maps``, a tuple of (B, channels, H / stride, W / stride), rounded up, in the order of
            ``out_features``; ``hidden_states``, a tuple of five maps, or None.
        """
        if output_attentions:
            raise ValueError("foveal's backbones keep no attention: leave output_attentions out")
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if return_dict is None:
            return_dict = self.config.return_dict
        taken = [self.stage_names.index(name) for name in self.out_features]
        hidden = tuple(self.net.hidden_maps(pixel_values, 1 + (STAGES if output_hidden_states else max(taken))))
        maps = tuple(self._feature(place, hidden[place]) for place in taken)
        if return_dict:
            hidden_states = hidden if output_hidden_states else None
            return BackboneOutput(feature_maps=maps, hidden_states=hidden_states)  # type: ignore[arg-type]
        return (maps, hidden) if output_hidden_states else (maps,)

    def _feature(self, place: int, x: Tensor) -> Tensor:
        """Return a hidden map as a feature map."""
        return cast(Stage, self.net.stages[place - 1]).feature(x) if place else x

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether activations are recomputed in the backward pass; transformers sets it, also through a head."""
        return any(stage.grad_checkpointing for stage in self.net.stages)

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, enable: bool) -> None:
        self.net.set_grad_checkpointing(enable, self._gradient_checkpointing_func)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise the tensors that were not in a file, as the papers' authors do.

        transformers calls this for every module, also for loaded ones, and marks the loaded tensors.
        """
        tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        loaded = [(tensor, tensor.clone()) for tensor in tensors if getattr(tensor, "_is_hf_initialized", False)]
        if len(loaded) == len(tensors):
            return
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()  # type: ignore[operator]
        self.net.init_module(module)
        for tensor, value in loaded:
            tensor.copy_(value)


class TransNeXtBackbone(PyramidBackbone):
    """TransNeXt for transformers' heads; see ``PyramidBackbone`` and ``TransNeXtConfig``."""

    config: TransNeXtConfig


class TransXNetBackbone(PyramidBackbone):
    """TransXNet for transformers' heads; see ``PyramidBackbone`` and ``TransXNetConfig``."""

    config: TransXNetConfig

    def _prepare_features(self) -> None:
        self._normed = [self.stage_names.index(name) for name in self.out_features if name != "stem"]
        if self.config.feature_norm:
            cast(TransXNet, self.net).add_feature_norms([place - 1 for place in self._normed])

    def _feature(self, place: int, x: Tensor) -> Tensor:
        if place and place not in self._normed and self.config.feature_norm:
            raise ValueError(
                f"this backbone was created without a norm for {self.stage_names[place]}: name all maps in its "
                "configuration"
            )
        return super()._feature(place, x)


def load_released(model: nn.Module, file: WeightsSource | None = None) -> None:
    """Load a classifier's weights into the backbone of a model; norms of feature maps keep their values.

    Args:
        model: a backbone of ours, or any model with exactly one in it.
        file: a file for ``foveal.load_checkpoint``; None fetches the authors' file for the configuration's
            ``model_name``.

    The first convolution adapts to another number of channels, position tables to another image size.

    Raises:
        FovealError: no backbone of ours in the model, or several; the file is missing, damaged or of another network;
            or there are no released weights, or they cannot be fetched.
    """
    backbones = [module for module in model.modules() if isinstance(module, PyramidBackbone)]
    if len(backbones) != 1:
        raise FovealError(
            f"load_released fills one backbone of foveal, and this {type(model).__name__} has {len(backbones)}: pass "
            "the backbone itself."
        )
    with without_feature_norms(backbones[0].net):
        if file is not None:
            load_checkpoint(backbones[0].net, file)
        else:
            _fetch(backbones[0])


def _fetch(backbone: PyramidBackbone) -> None:
    net: Any = backbone.net
    name = backbone.config.model_name
    if not any(net.pretrained_cfg.get(home) for home in ("hf_hub_id", "url", "file")):
        raise FovealError(f"There are no released weights of {name}: choose another model, or pass a file.")
    with fetching(name, "download the file elsewhere and pass it"):
        load_pretrained(net, num_classes=0, in_chans=net.in_chans, filter_fn=filter_of(net))


def _create(config: PyramidConfig) -> Pyramid:
    """Create the network without the parts after the last stage.

    transformers loads in half precision by changing PyTorch's default dtype, in which timm would round the rates of
    stochastic depth.
    """
    dtype = torch.get_default_dtype()
    with _default_dtype(torch.float32):
        net = timm.create_model(config.model_name, dtype=dtype, **config.arguments)
    cast(Pyramid, net).prune_intermediate_layers([STAGES - 1], prune_norm=True)
    return cast(Pyramid, net)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
