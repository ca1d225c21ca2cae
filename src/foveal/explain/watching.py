"""What every look into a network shares: evaluation mode, hooks, and a network that is left as it was found."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.models.pyramid import Pyramid

MIN_SIDE = 32  # pixels: the smallest image of both families


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Set evaluation mode inside the block, then restore each module's mode: a network may be partly frozen."""
    modes = {module: module.training for module in net.modules()}
    if any(modes.values()):  # ``eval`` drops what the networks keep per image size, such as position biases
        net.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def frozen(net: nn.Module) -> Iterator[None]:
    """Let no parameter require gradients inside the block, so that a backward pass computes those of the input alone.

    Each parameter's setting is restored afterwards; its ``grad`` is not touched.
    """
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@contextmanager
def differentiating(net: nn.Module, device: torch.device) -> Iterator[None]:
    """Record derivatives with respect to the input alone, of a network in evaluation mode, whatever the caller's modes.

    A caller's autocast would round what is summed.
    """
    with (
        evaluating(net),
        frozen(net),
        torch.autocast(device.type, enabled=False),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        yield


def of_this_thread(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Return a hook that ignores the calls of other threads: they share a network's modules, and so its hooks."""
    owner = threading.get_ident()

    def own(*args: Any) -> Any:
        return hook(*args) if threading.get_ident() == owner else None

    return own


@contextmanager
def before(module: nn.Module, hook: Callable[[nn.Module, tuple], None]) -> Iterator[None]:
    """Call ``hook(module, inputs)`` before each call of ``module`` inside the block, by this thread."""
    handle = module.register_forward_pre_hook(of_this_thread(hook))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def after(module: nn.Module, hook: Callable[[nn.Module, tuple, Tensor], None]) -> Iterator[None]:
    """Call ``hook(module, inputs, output)`` after each call of ``module`` inside the block, by this thread."""
    handle = module.register_forward_hook(of_this_thread(hook))
    try:
        yield
    finally:
        handle.remove()


def run_to_stage(
    net: Pyramid, batch: Tensor, stage: int, hooks: Mapping[nn.Module, Callable[[nn.Module, tuple], None]]
) -> None:
    """Run a network in evaluation mode up to a stage, and call each hook before its module.

    A caller's autocast is disabled, because it would round what the hooks see.
    """
    with ExitStack() as scopes:
        scopes.enter_context(torch.autocast(batch.device.type, enabled=False))
        scopes.enter_context(evaluating(net))
        for module, hook in hooks.items():
            scopes.enter_context(before(module, hook))
        net.forward_intermediates(batch, indices=[stage], stop_early=True, intermediates_only=True)


def batch_of_one(net: nn.Module, image: Tensor, channels: int = 3) -> Tensor:
    """Return an image (C, H, W) or (1, C, H, W) as (1, C, H, W), on the network's device and in its dtype.

    Raises:
        FovealError: it has another shape, is not floating point, or a side is below 32 pixels.
    """
    batch = image.unsqueeze(0) if image.ndim == 3 else image
    if batch.ndim != 4 or batch.shape[:2] != (1, channels) or not batch.is_floating_point():
        raise FovealError(
            f"Pass one floating-point image of shape ({channels}, H, W): "
            f"this one is {tuple(image.shape)}, {image.dtype}."
        )
    if min(batch.shape[2:]) < MIN_SIDE:
        raise FovealError(
            f"The image is {batch.shape[2]} x {batch.shape[3]}: each side must be at least {MIN_SIDE} pixels."
        )
    weight = next(net.parameters())
    return batch.to(weight.device, weight.dtype)
