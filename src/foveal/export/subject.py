"""What is exported: a network, how images become its input, and what its outputs mean."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.models.folded import can_fold, optimize
from foveal.models.pyramid import Pyramid
from foveal.models.transnext import TransNeXt
from foveal.models.transxnet import TransXNet
from foveal.runtime.card import Card, Input, Resizing
from foveal.types import Size
from foveal.version import __version__

from .program import SMALLEST

INPUT = "images"
CREDITS = {
    TransNeXt: "TransNeXt by Dai Shi (CVPR 2024, arXiv:2311.17132), Apache-2.0",
    TransXNet: "TransXNet by Lou, Zhang, Zhou, Yang, Wu and Yu (arXiv:2310.19380), Apache-2.0",
}


@dataclass(frozen=True)
class Subject:
    """A network to be exported.

    Attributes:
        net: in eval mode; images (B, C, H, W) to a tensor, or to as many as ``outputs``.
        task, model, outputs, classes, settings: as in ``foveal.runtime.card.Card``.
        size: (height, width) of the images.
        resizing: how an image becomes an input.
        smallest: side in pixels that the network takes if sizes are free: below, one of its maps is one cell wide.
    """

    net: nn.Module
    task: str
    model: str
    size: Size
    resizing: Resizing
    outputs: tuple[str, ...]
    classes: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    smallest: int = SMALLEST

    @property
    def channels(self) -> int:
        """Channels of the images."""
        backbone = next((module for module in self.net.modules() if isinstance(module, Pyramid)), None)
        return 3 if backbone is None else backbone.in_chans

    def card(self, precision: str, batch: int | None, any_size: bool) -> Card:
        """Return the description of a file of this network."""
        given = Input(INPUT, batch, self.size, any_size, self.channels, self.smallest)
        return Card(
            task=self.task,
            model=self.model,
            precision=precision,
            input=given,
            resizing=self.resizing,
            outputs=self.outputs,
            classes=self.classes,
            credit=self.credit,
            foveal=__version__,
            settings=self.settings,
        )

    @property
    def credit(self) -> str:
        """The authors of the backbone and the licence of their weights; of a network of timm, timm's licence."""
        kinds = {type(module) for module in self.net.modules()}
        found = [text for kind, text in CREDITS.items() if any(issubclass(one, kind) for one in kinds)]
        return found[0] if found else f"{self.model} of timm; see its documentation for authors and licence"

    def folded(self, dtype: torch.dtype) -> nn.Module:
        """Return a copy for inference in ``dtype``: folded by ``foveal.optimize`` if it has blocks of ours."""
        if not can_fold(self.net):
            return _InDtype(copy.deepcopy(self.net).to(dtype), dtype)
        try:
            return optimize(self.net, dtype, memory=False)
        except ValueError as error:
            raise FovealError(f"{self.model} cannot be exported: {error}.") from error


class _InDtype(nn.Module):
    """A network of timm that converts images to its dtype, as folded networks do."""

    def __init__(self, net: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.net, self.dtype = net, dtype

    def forward(self, x: Tensor) -> Any:
        return self.net(x.to(self.dtype))


class Features(nn.Module):
    """The feature maps of a backbone's stages, as a tuple."""

    net: Pyramid

    def __init__(self, net: Pyramid):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) to a map (B, C_i, H / stride, W / stride) per stage."""
        return tuple(cast(list[Tensor], self.net.forward_intermediates(x, intermediates_only=True)))
