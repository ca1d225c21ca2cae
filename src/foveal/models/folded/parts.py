"""What folded blocks share."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn


class InferenceOnly(nn.Module):
    """A module that refuses training mode."""

    def train(self, mode: bool = True) -> Any:
        """Stay in eval mode; raises ValueError when asked for training."""
        if mode:
            raise ValueError("this network was folded for inference by foveal.optimize and cannot be trained")
        return super().train(False)


def refuse_training(net: nn.Module) -> nn.Module:
    """`net`, which from here on refuses training mode itself: a refusal by one of its parts would come when others have
    changed already."""
    if not isinstance(net, InferenceOnly):
        net.__class__ = _inference_only(type(net))
    return net


@functools.cache
def _inference_only(kind: type[nn.Module]) -> type[nn.Module]:
    """`kind` as an InferenceOnly, by the same name; copies and pickles are made through `kind`."""

    def reduce(net: nn.Module, protocol: object) -> tuple:
        return _unfilled, (kind,), net.__getstate__()

    names = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(kind.__name__, (InferenceOnly, kind), {**names, "__reduce_ex__": reduce})


def _unfilled(kind: type[nn.Module]) -> nn.Module:
    new = _inference_only(kind)
    return new.__new__(new)


def cast(x: Tensor, dtype: torch.dtype) -> nn.Parameter:
    """A parameter without gradient that holds x in `dtype`, contiguous."""
    return nn.Parameter(x.detach().to(dtype).contiguous(), requires_grad=False)


def constant(x: Tensor) -> nn.Parameter:
    """The same in float32 at least, as the kernels take small parameters, so that no call converts them again."""
    return cast(x, torch.promote_types(x.dtype, torch.float32))


def batch_norm_affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """(scale, shift), each (C,), of a BatchNorm in eval mode: it computes x * scale + shift."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale, norm.bias - norm.running_mean * scale


def scale_output(weight: Tensor, bias: Tensor | None, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """A layer and `y * scale + shift` behind it as one layer: (C_out, ...) weight and (C_out,) bias."""
    folded = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    return folded, shift if bias is None else bias * scale + shift


def scale_input(weight: Tensor, bias: Tensor | None, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """`x * scale + shift` and a 1x1 convolution or linear layer behind it as one: weight (C_out, C_in) and bias."""
    weight = weight.flatten(1)
    moved = weight @ shift
    return weight * scale, moved if bias is None else bias + moved
