"""Small checkpoints with released names: only the first block of each stage is kept."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from golden.fill import filled_tensor, released_names
from support.nets import shrunk

RELEASED = {
    "transnext_micro": "transnext_micro",
    "transnext_tiny": "transnext_tiny",
    "transnext_small": "transnext_small",
    "transnext_base": "transnext_base",
    "transnext_micro_aaaa": "transnext_micro_AAAA",
    "transxnet_t": "transxnet_t",
    "transxnet_s": "transxnet_s",
    "transxnet_b": "transxnet_b",
}  # Foveal's name: name of the released file
_LATER_BLOCK = re.compile(r"^(block\d|network\.[0246])\.[1-9]")


def shallow_state(name: str) -> dict[str, Tensor]:
    """A released state dict with one block per stage."""
    shapes = released_names(RELEASED[name])
    return {n: filled_tensor(n, shape) for n, shape in shapes.items() if not _LATER_BLOCK.match(n)}


def shallow_net(name: str, **options) -> nn.Module:
    """The model for `shallow_state`."""
    return shrunk(name, **{"img_size": 224, **options}).eval()


def snapshot(net: nn.Module) -> dict[str, Tensor]:
    """A copy of the state dict."""
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def same_state(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether two state dicts hold the same names and bits."""
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)
