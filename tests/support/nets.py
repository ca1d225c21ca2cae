"""Small models whose weights are far enough from their initial values for every part to matter."""

from __future__ import annotations

from functools import cache

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import foveal  # noqa: F401  (registers the models)

TRANSNEXT = ("transnext_micro", "transnext_tiny", "transnext_small", "transnext_base", "transnext_micro_aaaa")
TRANSXNET = ("transxnet_t", "transxnet_s", "transxnet_b")
OURS = ("transnext_atto", "transnext_pico", "transxnet_atto")
ROADMAP = tuple(f"transnext_roadmap_{step}" for step in range(2, 8))
PVT = ("pvt_tiny",)
COMPARED = "transxnet_mixers"  # of table VI of the TransXNet paper
NAMES = (*TRANSNEXT, *TRANSXNET, *OURS)
SHALLOW = (1, 1, 1, 1)


def shrunk(name: str, **options) -> nn.Module:
    """A registered model with one block per stage, for small images."""
    return timm.create_model(name, **{"depths": SHALLOW, "img_size": 64, **options})


@cache
def on_meta(name: str) -> nn.Module:
    """A registered model on the meta device; cached, so do not modify it."""
    with torch.device("meta"):
        return timm.create_model(name, device="meta")


def lively(net: nn.Module) -> nn.Module:
    """Move all weights and statistics off their initial values in place: layer scales of 1e-5 would hide branches."""
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            spread = 0.2 if parameter.ndim < 4 or "table" in name else 0.05
            parameter.add_(torch.randn_like(parameter) * spread)
        for name, buffer in net.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.8, 1.4)
    return net


def atto(family: str = "transnext", **options) -> nn.Module:
    """The smallest model of a family with one block per stage and fixed non-trivial weights, in evaluation mode."""
    torch.manual_seed(0)
    return lively(shrunk(f"{family}_atto", **{"num_classes": 10, **options})).eval()


def image(height: int, width: int, batch: int = 1, channels: int = 3, seed: int = 1) -> Tensor:
    """Images with standard normal pixels."""
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(seed))


def gradients(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Gradients of a fixed random weighting of the output, by parameter name."""
    net.zero_grad(set_to_none=True)
    out = net(x)
    out = out if isinstance(out, Tensor) else torch.cat([o.flatten() for o in out])
    weighting = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).to(out.device, out.dtype)
    (out * weighting).sum().backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def assert_a_step_lowers_the_loss(net: nn.Module) -> None:
    """Assert that every parameter gets a finite gradient, and that a small step against it lowers the loss."""
    x, labels = image(64, 96, batch=4), torch.tensor([1, 2, 3, 4])
    before = F.cross_entropy(net(x), labels)
    before.backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    torch.optim.SGD(net.parameters(), lr=1e-3).step()
    assert F.cross_entropy(net(x), labels) < before


def in_double(net: nn.Module, gradients: bool = False) -> dict[str, Tensor]:
    """A float64 copy of the state dict for the plain forms; with ``gradients`` the parameters require gradients."""
    learned = {name for name, _ in net.named_parameters()} if gradients else set()
    state = {
        n: t.detach().clone().double() if t.is_floating_point() else t.clone() for n, t in net.state_dict().items()
    }
    return {name: t.requires_grad_(name in learned) for name, t in state.items()}
