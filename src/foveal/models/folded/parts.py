"""Building blocks of the folded networks: modules for inference only, and folding of affine maps into weights."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from foveal.ops.linear import linear, linear_add
from foveal.ops.standard import pointwise

from ..cache import SizeCache


class InferenceOnly(nn.Module):
    """A module that refuses training mode."""

    def train(self, mode: bool = True) -> Any:
        """Stay in eval mode, and forget what was computed from weights; raise ValueError for training mode."""
        if mode:
            raise ValueError("this network was folded for inference by foveal.optimize and cannot be trained")
        for value in vars(self).values():
            if isinstance(value, SizeCache):
                value.clear()
        return super().train(False)


def refuse_training(net: nn.Module) -> nn.Module:
    """Make ``net`` itself refuse training mode, before any of its parts has changed its mode."""
    if not isinstance(net, InferenceOnly):
        net.__class__ = _inference_only(type(net))
    return net


@functools.cache
def _inference_only(kind: type[nn.Module]) -> type[nn.Module]:
    """Derive an InferenceOnly class from ``kind``, with the same name; copies and pickles go through ``kind``."""

    def reduce(net: nn.Module, protocol: object) -> tuple:
        return _unfilled, (kind,), net.__getstate__()

    names = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(kind.__name__, (InferenceOnly, kind), {**names, "__reduce_ex__": reduce})


def _unfilled(kind: type[nn.Module]) -> nn.Module:
    new = _inference_only(kind)
    return new.__new__(new)


def cast(x: Tensor, dtype: torch.dtype) -> nn.Parameter:
    """Return ``x`` as a contiguous parameter of ``dtype`` without gradient."""
    return nn.Parameter(x.detach().to(dtype).contiguous(), requires_grad=False)


def constant(x: Tensor) -> nn.Parameter:
    """Return ``x`` as such a parameter in float32 at least, as the kernels expect small parameters."""
    return cast(x, torch.promote_types(x.dtype, torch.float32))


class Weights(nn.Module):
    """Weight (C_out, ...) and bias (C_out,) of a convolution or linear layer."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype):
        super().__init__()
        self.weight, self.bias = cast(weight, dtype), cast(bias, dtype)


class Layer(Weights):
    """A linear layer of tokens (..., C_in), after an optional LayerNorm: one of the products of a folded network."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, norm: nn.LayerNorm | None = None):
        super().__init__(weight, bias, dtype)
        self.norm = None if norm is None else norm.to(dtype)

    @staticmethod
    def of(layer: nn.Module, dtype: torch.dtype, norm: nn.LayerNorm | None = None) -> Layer:
        """Return a linear layer, or a 1x1 convolution as a linear layer."""
        return Layer(layer.get_parameter("weight").flatten(1), layer.get_parameter("bias"), dtype, norm)

    def forward(self, x: Tensor, *, gelu: bool = False, add: Tensor | None = None) -> Tensor:
        """(..., C_in) to (..., C_out), after an exact GELU with ``gelu``, or plus ``add`` (..., C_out)."""
        x = self.normalised(x)
        if add is not None:
            return linear_add(x, self.weight, self.bias, add)
        return linear(x, self.weight, self.bias, gelu=gelu)

    def maps(self, x: Tensor, parts: int = 1) -> list[Tensor]:
        """Return the outputs for a map (B, C_in, H, W) without the norm, in equal parts (B, C_out / parts, H, W), for an
        exported program: a convolution each, since runtimes copy the parts of one map."""
        rows = len(self.weight) // parts
        starts = range(0, len(self.weight), rows)
        return [pointwise(x, self.weight[i : i + rows], self.bias[i : i + rows]) for i in starts]

    def normalised(self, x: Tensor) -> Tensor:
        """Return the input of the product."""
        return x if self.norm is None else self.norm(x)


def batch_norm_affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return (scale, shift), each (C,), of a BatchNorm in eval mode, which computes x * scale + shift."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale, norm.bias - norm.running_mean * scale


def scale_output(weight: Tensor, bias: Tensor | None, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Fold ``y * scale + shift`` after a layer into its weight (C_out, ...) and bias (C_out,)."""
    folded = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    return folded, shift if bias is None else bias * scale + shift


def scale_input(weight: Tensor, bias: Tensor | None, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Fold ``x * scale + shift`` before a 1x1 convolution or linear layer into its weight (C_out, C_in) and bias."""
    weight = weight.flatten(1)
    moved = weight @ shift
    return weight * scale, moved if bias is None else bias + moved
