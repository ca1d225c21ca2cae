"""The backbones that transformers' heads hold: any image in, the chosen stages' maps out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import timm
import torch
from timm.models._manipulate import checkpoint
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.backbone_utils import BackboneMixin
from transformers.modeling_outputs import BackboneOutput

from foveal.integrations.transformers.config import STAGES, PyramidConfig, TransNeXtConfig, TransXNetConfig
from foveal.models import TransXNet
from foveal.models.pyramid import Pyramid, Stage


class PyramidBackbone(BackboneMixin, PreTrainedModel):
    """What both families' backbones share. The network lies in ``net``; it is timm's, without norm and classifier.

    Recomputation of activations (``gradient_checkpointing_enable``) is the network's own, block by block, with the
    function that transformers gives.
    """

    net: Pyramid
    main_input_name = "pixel_values"
    input_modalities = ["image"]
    supports_gradient_checkpointing = True
    has_attentions = False  # the fused operators keep none
    _supports_sdpa = _supports_flash_attn = True  # which one a head is told to use is nothing to these networks
    _gradient_checkpointing_func: Callable[..., Tensor] = staticmethod(checkpoint)

    def __init__(self, config: PyramidConfig) -> None:
        super().__init__(config)
        self.net = _make(config)
        self.num_features = [config.hidden_sizes[0], *config.hidden_sizes]
        self._prepare_features()
        if not next(self.net.parameters()).is_meta:
            for module in self.net.modules():  # drawn as it was made; transformers need not do it again
                module._is_hf_initialized = True  # type: ignore[assignment]
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, with the weights in memory of their own.

        Safetensors leaves them where the file has them, at addresses of any kind, and PyTorch's libraries round
        differently by alignment: outputs would differ in the last bit from those of what was saved.
        """
        loaded = super().from_pretrained(*args, **kwargs)
        backbone = loaded[0] if isinstance(loaded, tuple) else loaded  # beside it what was loaded, if that was asked
        for tensor in (*backbone.parameters(), *backbone.buffers()):
            tensor.data = tensor.data.clone()
        return loaded

    def _prepare_features(self) -> None:
        """Give the net what only feature maps need."""

    def forward(
        self,
        pixel_values: Tensor,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> BackboneOutput | tuple[tuple[Tensor, ...], ...]:
        """The chosen maps of normalised images.

        Args:
            pixel_values: (B, num_channels, H, W), H and W at least 32 and otherwise free.
            output_hidden_states: give the stem's map and all stages' as well, as the next part takes them; the default
                is the configuration's.
            output_attentions: cannot be had: the fused operators keep no attention.
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
        """A hidden map as a feature map."""
        return cast(Stage, self.net.stages[place - 1]).feature(x) if place else x

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether activations are computed again in the backward pass; transformers sets it, also through a head."""
        return any(stage.grad_checkpointing for stage in self.net.stages)

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, enable: bool) -> None:
        self.net.set_grad_checkpointing(enable, self._gradient_checkpointing_func)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw what no file had, as the papers' authors draw it.

        Transformers asks this for every module, also for those that were loaded, and marks the loaded tensors.
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
                f"this backbone was made without a norm for {self.stage_names[place]}: name all maps in the "
                "configuration that it is made from"
            )
        return super()._feature(place, x)


def _make(config: PyramidConfig) -> Pyramid:
    """The network without what follows the last stage's map.

    Transformers loads in half precision by changing PyTorch's default dtype, in which timm would round the rates of
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
