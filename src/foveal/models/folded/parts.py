"""Building blocks of the folded networks: modules for inference only, folding of affine maps into weights, and what an
exported program takes ready-made."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.ops.linear import linear, linear_add
from foveal.ops.standard import is_standard

from ..cache import SizeCache

_preparing: Literal["weights", "sizes"] | None = None


@contextmanager
def preparing(*, sizes: bool) -> Iterator[None]:
    """Inside the block, folded networks keep what they compute from weights alone as buffers, and with ``sizes`` what
    they compute from weights and sizes: an exported program then reads it, instead of computing it."""
    global _preparing
    before, _preparing = _preparing, "sizes" if sizes else "weights"
    try:
        yield
    finally:
        _preparing = before


class Preparable(nn.Module):
    """A module that an exported program may take ready-made tensors from."""

    def prepared(
        self, name: str, compute: Callable[[], Sequence[Tensor | None]], *, of_size: bool = False, replaces: str = ""
    ) -> list[Any]:
        """Return ``compute()``, or what was kept of it while ``preparing``.

        Args:
            of_size: whether it depends on the size of the map, too.
            replaces: a parameter that nothing else reads, and that a file need not hold as well.
        """
        is_wanted = _preparing is not None and (_preparing == "sizes" or not of_size)
        if is_wanted and not (replaces and self._prepared(name)):  # whose parameter is gone
            for number, tensor in enumerate(compute()):
                kept = None if tensor is None else tensor.detach().contiguous()
                self.register_buffer(f"prepared_{name}_{number}", kept, persistent=False)
            if replaces:
                setattr(self, replaces, None)
        return self._prepared(name) or list(compute())

    def _prepared(self, name: str) -> list[Any]:
        names = itertools.takewhile(
            self._buffers.__contains__, (f"prepared_{name}_{number}" for number in itertools.count())
        )
        return [self._buffers[buffer] for buffer in names]


class InferenceOnly(Preparable):
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


class Weights(Preparable):
    """Weight (C_out, ...) and bias (C_out,) of a convolution or linear layer."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype):
        super().__init__()
        self.weight, self.bias = cast(weight, dtype), cast(bias, dtype)


class Layer(Weights):
    """A linear layer of tokens (..., C_in), after an optional LayerNorm: one of the products of a folded network."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, norm: nn.LayerNorm | None = None):
        super().__init__(weight, bias, dtype)
        self.outputs = len(weight)
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

    def map(self, x: Tensor) -> Tensor:
        """Return the outputs for a map (B, C_in, H, W) without the norm, (B, C_out, H, W), for an exported program."""
        return self.maps(x, [self.outputs])[0]

    def maps(self, x: Tensor, parts: Sequence[int]) -> list[Tensor]:
        """Return ``map`` in parts of these numbers of channels: a convolution each, since runtimes copy the parts of a
        map."""
        sizes = list(parts)
        weights = self.prepared("weights", lambda: self.weight[:, :, None, None].split(sizes), replaces="weight")
        biases = self.prepared("biases", lambda: self.bias.split(sizes), replaces="bias")
        return [F.conv2d(x, weight, bias) for weight, bias in zip(weights, biases, strict=True)]

    def normalised(self, x: Tensor) -> Tensor:
        """Return the input of the product."""
        return x if self.norm is None else self.norm(x)


def takes_maps(*layers: nn.Module) -> bool:
    """Whether a block with these products takes its channels-first form: in an exported program, unless one of them was
    replaced, as by ``foveal.quantize``."""
    return is_standard() and all(isinstance(layer, Layer) for layer in layers)


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
