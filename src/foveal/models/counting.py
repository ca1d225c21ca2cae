"""Multiply-adds and parameters by module, counted on the meta device: nothing is computed, at any size and in any mode.

Counted as in the papers: convolutions, linear layers and matrix products by their multiply-adds, LayerNorm and
GroupNorm with 5 per element, BatchNorm with 2, pooling with 1 per input element (a global mean with none). Activations,
additions and softmax are not counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import to_2tuple
from timm.models._features import FeatureGetterNet
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import foveal.ops  # noqa: F401  (registers the operators counted below)

aten, operators = torch.ops.aten, torch.ops.foveal

KINDS = ("conv", "linear", "matmul", "norm", "pool")

LayerRule = Callable[[nn.Module, tuple, Any], int]
"""Multiply-adds of one call of a layer, from the module, its arguments and its output."""


@dataclass(frozen=True)
class ModuleCount:
    """Multiply-adds of one forward pass and parameters of a module, including its children."""

    macs: int
    params: int


@dataclass(frozen=True)
class Count:
    """The result of ``flops``.

    Attributes:
        macs: multiply-adds of one forward pass.
        params: parameters.
        paper_macs: multiply-adds by the rule of the network's own paper, which calls them FLOPs. For TransNeXt these
            are all multiply-adds; for TransXNet those that hooks on layers see: convolution layers with their biases,
            linear layers and normalisations with 2 per element, but neither dynamic kernels nor the products of
            attention. For detectors see ``foveal.tasks.detection.count_detector``, for segmenters
            ``foveal.tasks.segmentation.count_segmenter``.
        kinds: multiply-adds by kind of operation: conv, linear, matmul, norm, pool.
        modules: counts by module name, in the order of ``named_modules``; "" is the whole network.
        size: (H, W) of the image.
    """

    macs: int
    params: int
    paper_macs: int
    kinds: dict[str, int]
    modules: dict[str, ModuleCount]
    size: tuple[int, int]

    def __str__(self) -> str:
        rows = [f"{'module':<28} {'multiply-adds':>14} {'parameters':>12}"]
        for name, count in self.modules.items():
            if name.count(".") <= 1:
                rows.append(f"{name or 'all':<28} {count.macs / 1e9:>12.3f} G {count.params / 1e6:>10.3f} M")
        return "\n".join(rows)


def flops(net: nn.Module, size: int | tuple[int, int] | None = None, *, batch: int = 1) -> Count:
    """Count a network's multiply-adds and parameters without running it.

    Args:
        net: a backbone of this library, or any module that takes (B, in_chans, H, W). It is neither moved nor changed.
        size: side or (H, W) of the image; None for the network's own ``img_size``, or 224 if it has none.
        batch: images per pass.

    Returns:
        A Count of multiply-adds, not of twice their number; ``print(count)`` shows it by stage.
    """
    backbone = net.model if isinstance(net, FeatureGetterNet) else net
    height, width = to_2tuple(size if size is not None else getattr(backbone, "img_size", 224))
    rule = layer_macs if getattr(backbone, "paper_counts_layers", False) else None
    return count_pass(net, (batch, getattr(backbone, "in_chans", 3), height, width), rule)


def count_pass(net: nn.Module, shape: tuple[int, int, int, int], rule: LayerRule | None = None) -> Count:
    """Count one pass of ``net`` over an image tensor of ``shape``, on the meta device.

    Args:
        net: any module that takes one tensor. It is neither moved nor changed.
        shape: (B, channels, H, W).
        rule: gives ``paper_macs``, layer by layer; None for the same count as ``macs``.
    """
    tensors = {n: t.detach().to("meta") for n, t in [*net.named_parameters(), *net.named_buffers()]}
    dtype = next((t.dtype for t in tensors.values() if t.is_floating_point()), torch.float32)
    image = torch.empty(shape, device="meta", dtype=dtype)
    counter = FlopCounterMode(display=False, custom_mapping=_formulas())

    def by_rule(module: nn.Module, args: tuple, output: Any) -> tuple[str, int]:
        return "layer", rule(module, args, output) if rule else 0

    with (
        torch.no_grad(),
        _as_in_evaluation(net),
        _work_by_module(net, _elementwise_macs) as elementwise,
        _work_by_module(net, by_rule) as layers,
        counter,
    ):
        torch.func.functional_call(net, tensors, (image,))
    return _collect(net, counter, elementwise, layers.total() if rule else None, shape[-2:])


def _collect(
    net: nn.Module, counter: FlopCounterMode, elementwise: Counter, paper_macs: int | None, size: tuple[int, int]
) -> Count:
    by_path = {path: sum(counts.values()) // 2 for path, counts in counter.get_flop_counts().items()}
    root = type(net).__name__
    extra: Counter = Counter()
    for (name, _), macs in elementwise.items():
        for ancestor in _with_ancestors(name):
            extra[ancestor] += macs
    own = {name: by_path.get(f"{root}.{name}" if name else root, 0) + extra[name] for name, _ in net.named_modules()}
    modules = {}
    for name, module in net.named_modules():
        modules[name] = ModuleCount(_macs_of(own, name, module), sum(p.numel() for p in module.parameters()))
    kinds = Counter(dict.fromkeys(KINDS, 0))
    for operator, count in counter.get_flop_counts()["Global"].items():
        kinds[_kind(operator)] += count // 2
    for (_, kind), macs in elementwise.items():
        kinds[kind] += macs
    macs, params = modules[""].macs, modules[""].params
    return Count(macs, params, macs if paper_macs is None else paper_macs, dict(kinds), modules, size)


def _macs_of(own: dict[str, int], name: str, module: nn.Module) -> int:
    """Return a module's multiply-adds; for a container that is never called itself, the sum over its members."""
    prefix = f"{name}." if name else ""
    children = sum(_macs_of(own, prefix + child, inner) for child, inner in module.named_children())
    return max(own[name], children)


def _with_ancestors(name: str) -> Iterator[str]:
    """Yield a module's name and those of its ancestors; "" is the network."""
    while name:
        yield name
        name = name.rpartition(".")[0]
    yield ""


@contextmanager
def _as_in_evaluation(net: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode inside a block; unlike ``eval()``, keep its caches."""
    modes = [(module, module.training) for module in net.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _work_by_module(net: nn.Module, count: Callable[[nn.Module, tuple, Any], tuple[str, int]]) -> Iterator[Counter]:
    """Sum up ``count(module, args, output)``, a kind and multiply-adds, over all calls, by (module name, kind)."""
    work: Counter = Counter()
    handles = []
    for name, module in net.named_modules():

        def collect(module: nn.Module, args: tuple, output: Any, name: str = name) -> None:
            kind, macs = count(module, args, output)
            if macs:
                work[name, kind] += macs

        handles.append(module.register_forward_hook(collect))
    try:
        yield work
    finally:
        for handle in handles:
            handle.remove()


def _elementwise_macs(module: nn.Module, args: tuple, output: Any) -> tuple[str, int]:
    """Return the products that a module computes element by element, which the counter of operators does not see."""
    return module.elementwise_macs(args[0]) if hasattr(module, "elementwise_macs") else ("", 0)


def layer_macs(module: nn.Module, args: tuple, output: Any) -> int:
    """Count a layer as TransXNet's paper does: convolutions with biases, linear layers without, normalisations with 2
    per element."""
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    norm = isinstance(module, nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm) or hasattr(module, "is_layer_scale")
    return convolution_macs(module, output) + (2 * output.numel() if norm else 0)


def convolution_macs(module: nn.Module, output: Any) -> int:
    """Return the multiply-adds, biases included, of a convolution or of those that a module fuses; else 0."""
    layers = [layer for layer in (module, *getattr(module, "fused_layers", ())) if isinstance(layer, nn.Conv2d)]
    # The output of a fused module has other channels than each of its layers, but the same positions.
    return sum(
        output.numel() // output.shape[1] * layer.out_channels * (layer.weight[0].numel() + (layer.bias is not None))
        for layer in layers
    )


def _per_element(weight: int):
    return lambda x, *args, out_shape=None, **kwargs: 2 * weight * math.prod(x)


def _attention(q, k, v, k_pool, *args, out_shape=None, **kwargs) -> int:
    """Count similarities, positional attention and sums of values: 3 products per window key, 2 per pooled key."""
    area, pooled = args[3][-1], k_pool[1] * k_pool[2]
    return 2 * math.prod(q) * (3 * area + 2 * pooled)


def _formulas() -> dict:
    norm, batch_norm = _per_element(5), _per_element(2)
    return {
        aten.native_layer_norm: norm,
        aten.native_group_norm: norm,
        aten.native_batch_norm: batch_norm,
        aten._native_batch_norm_legit: batch_norm,
        aten._native_batch_norm_legit_no_training: batch_norm,
        aten._adaptive_avg_pool2d: _per_element(1),
        operators.aggregated_attention: _attention,
        operators.aggregated_attention_table: _attention,
        operators.gated_dwconv: lambda g, v, w, *args, **kwargs: 2 * math.prod(g) * w[-1] ** 2,
        operators.gated_dwconv_packed: lambda x, w, *args, **kwargs: math.prod(x) * w[-1] ** 2,
        operators.dynamic_dwconv: lambda x, w, *args, **kwargs: 2 * math.prod(x) * w[-1] ** 2,
        operators.gelu_pool: _per_element(1),
        operators.multiscale_dwconv: lambda x, w, *args, **kwargs: 2 * math.prod(x[:3]) * math.prod(w),
        operators.multiscale_dwconv_entered: lambda x, a, b, w, *args, **kwargs: 2 * math.prod(x[:3]) * math.prod(w),
    }


def _kind(operator) -> str:
    name = str(operator)
    if "conv" in name:
        return "conv"
    if "norm" in name:
        return "norm"
    if "pool" in name:
        return "pool"
    return "linear" if name in ("aten.addmm", "aten.mm", "aten._addmm_activation") else "matmul"
