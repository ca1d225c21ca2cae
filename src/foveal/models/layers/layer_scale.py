"""Layer scale with a bias, and how it joins the norm before it in training."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.ops.batch_norm import in_training
from foveal.ops.host import observed
from foveal.ops.modules import is_plain_module

_LAYER_SCALE = 1e-5  # at the start


class LayerScale(nn.Module):
    """A learned weight and bias per channel."""

    is_layer_scale = True  # counted as a convolution, as the paper's code writes it

    def __init__(self, dim: int, **dd: Any):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim, 1, 1, 1, **dd))
        self.bias = nn.Parameter(torch.empty(dim, **dd))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise close to 0, so that a deep network starts near the identity."""
        nn.init.constant_(self.weight, _LAYER_SCALE)
        nn.init.zeros_(self.bias)

    def elementwise_macs(self, x: Tensor) -> tuple[str, int]:
        """Count the products, which the paper's code writes as a depthwise 1x1 convolution."""
        return "conv", x.numel()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.flatten()[:, None, None] + self.bias[:, None, None]

    def after(self, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
        """Return ``self(norm(x))`` in training, in no further pass: gain and bias of the norm take the scale."""
        weight = self.weight.flatten()
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        gain, bias = norm.weight * weight, torch.addcmul(self.bias, norm.bias, weight)
        return F.batch_norm(x, norm.running_mean, norm.running_var, gain, bias, True, norm.momentum, norm.eps)


def may_join(x: Tensor, layers: nn.Sequential, scale: nn.Module | None, drop: nn.Module) -> bool:
    """Whether ``scale.after`` may compute the norm that ends ``layers`` and the scale, between which nothing is
    dropped. Not for torch.fx, whose stand-in for x is no tensor: the norm would count a batch while it traces."""
    plain = isinstance(x, Tensor) and not observed() and drops_nothing(drop)
    plain = plain and is_plain_module(LayerScale, scale) and is_plain_module(nn.Sequential, layers)
    return plain and len(layers) > 0 and in_training(layers[-1]) and bool(layers[-1].track_running_stats)


def drops_nothing(drop: nn.Module) -> bool:
    """Return whether a dropout layer returns its input."""
    return is_plain_module(nn.Dropout, drop) and not (drop.p and drop.training)


def run_rest(layers: nn.Sequential, x: Tensor, done: int, joins: bool) -> Tensor:
    """Run the layers that are left: without the first ones that are ``done``, and without the last if it ``joins`` the
    layer scale. The container is called for all of them, so that hooks on it run."""
    if not done and not joins:
        return layers(x)
    for layer in list(layers)[done : -1 if joins else None]:
        x = layer(x)
    return x
