"""``foveal.optimize``: networks folded for inference, with the same outputs from fewer operators."""

from __future__ import annotations

import copy

import torch
from torch import nn

from foveal.ops.host import keep_memory

from ..pyramid import Pyramid
from . import transnext, transxnet
from .parts import InferenceOnly, refuse_training

_FOLDS = {**transnext.FOLDS, **transxnet.FOLDS}


def can_fold(net: nn.Module) -> bool:
    """Return whether ``optimize`` finds a block of TransNeXt or TransXNet in a network."""
    return any(type(module) in _FOLDS for module in net.modules())


def optimize(
    net: nn.Module, dtype: torch.dtype | None = None, *, compile: bool = False, memory: bool = True
) -> nn.Module:
    """Return a copy of ``net`` folded for inference: the same outputs within rounding, from fewer operators.

    Projections of one input become one product. BatchNorm, layer scale, identity additions and constants are folded
    into adjacent weights. Maps stay channels_last. The copy is for inference only: its weights get no gradients, and
    ``train()`` raises an error. Sizes, modes and ``set_input_size`` work as before.

    Args:
        net: a TransNeXt or TransXNet, or a network with one inside (a feature extractor, a detector), in eval mode. It
            is not changed.
        dtype: dtype of weights and activations, e.g. torch.bfloat16; None keeps the network's. Images are converted on
            entry. Softmax and position biases are computed in float32 at least.
        compile: also compile the result, as torch.compile does.
        memory: on a CPU, let the process keep freed memory (see ``foveal.ops.keep_memory``).

    Raises:
        ValueError: the network is not in eval mode throughout, has no block of TransNeXt or TransXNet, or is optimized
            already; or ``dtype`` is not a floating-point dtype.
    """
    if any(module.training for module in net.modules()):
        raise ValueError("optimize folds a network for inference: call net.eval() first")
    if any(isinstance(module, InferenceOnly) for module in net.modules()):
        raise ValueError(f"this {type(net).__name__} is optimized already")
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype must be a floating-point dtype such as torch.bfloat16, got {dtype!r}")
    parameter = next(net.parameters(), None)
    if parameter is None or not can_fold(net):
        raise ValueError(f"{type(net).__name__} has no block of TransNeXt or TransXNet in it: there is nothing to fold")
    dtype = dtype or parameter.dtype
    with torch.no_grad():
        folded = _fold(copy.deepcopy(net), dtype).to(memory_format=torch.channels_last)
    for p in folded.parameters():
        p.requires_grad_(False)
    if memory and parameter.device.type == "cpu":
        keep_memory()
    if compile:
        folded.compile()  # in place: torch.compile's wrapper would enter training mode before the network refuses it
    return folded


def _fold(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Fold every block in ``module`` and convert all other weights to ``dtype``.

    Every module that contains a folded block refuses training.
    """
    fold = _FOLDS.get(type(module))
    if fold is not None:
        return fold(module, dtype)
    if isinstance(module, Pyramid):
        module.input_dtype = dtype
    for name, child in module.named_children():
        setattr(module, name, _fold(child, dtype))
    for name, parameter in module.named_parameters(recurse=False):
        setattr(module, name, nn.Parameter(parameter.to(dtype), requires_grad=False))
    for name, buffer in module.named_buffers(recurse=False):
        if buffer.is_floating_point():
            setattr(module, name, buffer.to(dtype))
    return refuse_training(module) if any(isinstance(m, InferenceOnly) for m in module.children()) else module
