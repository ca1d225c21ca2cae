"""What is timed: models in inference and training, and operators at the shapes of TransNeXt-Tiny and TransXNet-S."""

from __future__ import annotations

from collections.abc import Callable

import timm
import torch

from foveal import ops
from foveal.errors import FovealError

MODELS = ("transnext_tiny", "transxnet_s")
PEERS = ("convnext_tiny", "swin_tiny_patch4_window7_224", "pvt_v2_b2")
BASELINE = "convnext_tiny"


def model_calls(
    names: tuple[str, ...], mode: str, batch: int, size: int, device: str, dtype: torch.dtype
) -> dict[str, Callable[[], object]]:
    """One call a model: a forward pass without gradients ("inference"), or forward and backward ("training").

    Half types run under autocast, as users run them. Raises FovealError for an unknown model.
    """
    image = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    return {name: _model_call(name, mode, image, dtype) for name in names}


def _model_call(name: str, mode: str, image: torch.Tensor, dtype: torch.dtype) -> Callable[[], object]:
    if not timm.is_model(name):
        raise FovealError(f"There is no model {name!r}: `foveal models` and `timm.list_models()` show those there are.")
    net = timm.create_model(name).to(image.device).to(memory_format=torch.channels_last).train(mode == "training")
    if hasattr(net, "set_input_size"):
        net.set_input_size(img_size=tuple(image.shape[-2:]))  # type: ignore[operator]  # Swin runs at one size
    autocast = torch.autocast(image.device.type, dtype, enabled=dtype != torch.float32)

    def infer() -> None:
        with torch.inference_mode(), autocast:
            net(image)

    def step() -> None:
        with autocast:
            loss = net(image).float().square().mean()
        loss.backward()
        net.zero_grad(set_to_none=True)

    return step if mode == "training" else infer


def operator_calls(mode: str, batch: int, device: str, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    """One call an operator and stage, named after both; forward, or forward and backward in training."""
    calls: dict[str, Callable[[], object]] = {}
    inputs: tuple[tuple[int, ...], ...]
    for stage, (side, heads) in enumerate(((56, 3), (28, 6), (14, 12)), 1):
        calls[f"aggregated_attention stage {stage}"] = _call(
            _attention_inputs(batch, side, heads), _attention, mode, device, dtype
        )
    for stage, (side, hidden) in enumerate(((56, 384), (28, 768), (14, 768), (7, 1536)), 1):
        inputs = ((batch, side, side, hidden), (batch, side, side, hidden), (hidden, 1, 3, 3), (hidden,))
        calls[f"gated_dwconv stage {stage}"] = _call(inputs, ops.gated_dwconv, mode, device, dtype)
    for stage, (side, dim) in enumerate(((56, 32), (28, 64), (14, 160), (7, 256)), 1):
        inputs = ((batch, side, side, dim), (batch, dim, 7, 7), (batch, dim))
        calls[f"dynamic_dwconv stage {stage}"] = _call(inputs, ops.dynamic_dwconv, mode, device, dtype)
    return calls


def _attention_inputs(batch: int, side: int, heads: int) -> tuple[tuple[int, ...], ...]:
    tokens, pooled = (batch, side, side, heads, 24), (batch, 7, 7, heads, 24)
    constants = ((heads,), (heads, 24), (heads, 9), (heads, side * side, 49), (heads, 24, 9), (heads, 9))
    return (tokens, tokens, tokens, pooled, pooled, *constants)


def _attention(*tensors: torch.Tensor) -> torch.Tensor:
    return ops.aggregated_attention(*tensors, window=3)


def _call(
    shapes: tuple[tuple[int, ...], ...],
    operator: Callable[..., torch.Tensor],
    mode: str,
    device: str,
    dtype: torch.dtype,
) -> Callable[[], object]:
    training = mode == "training"
    tensors = [torch.randn(s, device=device, dtype=dtype, requires_grad=training) for s in shapes]
    if not training:
        return lambda: operator(*tensors)
    grad = torch.randn_like(operator(*tensors))
    return lambda: torch.autograd.grad(operator(*tensors), tensors, grad)
