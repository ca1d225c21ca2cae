"""Arguments of every operator at a given shape, with the memory layout that the networks use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from foveal import ops
from foveal.ops.aggregated_attention.offsets import offset_count
from foveal.ops.aggregated_attention.resize import dense_bias
from foveal.types import Size

HEAD_DIM, WINDOW = 24, 3  # TransNeXt
DYNAMIC_KERNEL, FFN_KERNELS = 7, (1, 3, 5, 7)  # TransXNet


@dataclass(frozen=True)
class Arguments:
    """Arguments of one call: activations and parameters, each in their own dtype, and constants that are not tensors.

    Tensors named "weights.0", "weights.1" and so on are passed as one list, "weights". ``terms`` is the length of the
    longest sum in an output or a gradient, which determines the error that rounding may cause.
    """

    operator: str
    activations: dict[str, Tensor]
    parameters: dict[str, Tensor]
    constants: dict[str, Any] = field(default_factory=dict)
    terms: int = 1

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the activations."""
        return next(iter(self.activations.values())).dtype

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {**self.activations, **self.parameters}

    def to(self, activations: torch.dtype, parameters: torch.dtype) -> Arguments:
        """Return the same values in other dtypes."""
        return replace(
            self,
            activations={name: t.to(activations) for name, t in self.activations.items()},
            parameters={name: t.to(parameters) for name, t in self.parameters.items()},
        )

    def leaves(self) -> Arguments:
        """Return the same tensors as leaves that require a gradient; strides are unchanged."""
        return replace(
            self,
            activations={name: t.detach().requires_grad_() for name, t in self.activations.items()},
            parameters={name: t.detach().requires_grad_() for name, t in self.parameters.items()},
        )

    def dense(self) -> Arguments:
        """Return the same call with a dense position bias instead of a table of offsets, as the networks pass it to
        backends that do not read the table in place."""
        others = dict(self.parameters)
        table = others.pop("pool_bias_table", None)
        if table is None:
            return self
        (_, *size, _, _), (_, *pool, _, _) = (self.activations[name].shape for name in ("q", "k_pool"))
        constants = dict(self.constants)
        sizes = [side for one in constants.pop("table_sizes", ()) for side in one]
        bias = dense_bias(table, sizes, (size[0], size[1]), (pool[0], pool[1])).to(table.dtype)
        return replace(self, parameters={**others, "pool_bias": bias}, constants=constants)

    def run(self) -> Tensor:
        """Run the operator on the backend in use."""
        return getattr(ops, self.operator)(**self._named(), **self.constants)

    def available_backends(self) -> dict[str, str | None]:
        """Return every backend, fastest first, with the reason why it cannot take this call, or None."""
        return ops.explain(self.operator, **self._named(), **self.constants).reasons

    def _named(self) -> dict[str, Any]:
        named: dict[str, Any] = {}
        for name, tensor in self.tensors.items():
            listed, _, place = name.partition(".")
            if place:
                named.setdefault(listed, []).append(tensor)
            else:
                named[name] = tensor
        return named


Draw = Callable[..., Tensor]


def normal(device: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> Draw:
    """Return ``draw(*shape, spread=1.0)``, which draws normally distributed values, the same ones for each ``seed``."""
    generator = torch.Generator(device).manual_seed(seed)

    def draw(*shape: int, spread: float = 1.0) -> Tensor:
        return torch.randn(shape, generator=generator, device=device, dtype=dtype) * spread

    return draw


def aggregated_attention(
    draw: Draw,
    batch: int,
    size: Size,
    pool: Size,
    heads: int,
    dim: int = HEAD_DIM,
    window: int = WINDOW,
    reference: tuple[Size, Size] | None = None,
) -> Arguments:
    """Return arguments for a map of ``size`` and its pooled map.

    Keys and values are halves of one linear layer's output; the position bias is a table of offsets (see
    ``Arguments.dense``), of the map and pooled map ``reference`` if they are other ones.
    """
    channels, area = heads * dim, window**2
    constants: dict[str, Any] = dict(window=window) | (dict(table_sizes=reference) if reference else {})
    around = {}
    if window:
        k, v = draw(batch, *size, 2 * channels).unflatten(-1, (2, heads, dim)).unbind(-3)
        around = dict(k=k, v=v)
    else:
        constants |= dict(k=None, v=None)
    k_pool, v_pool = draw(batch, *pool, 2 * channels).unflatten(-1, (2, heads, dim)).unbind(-3)
    q = draw(batch, *size, heads, dim)
    parameters = dict(
        scale=draw(heads).abs() + 1,
        query_embedding=draw(heads, dim, spread=0.3),
        local_bias=draw(heads, area, spread=0.5),
        pool_bias_table=draw(heads, *map(offset_count, *(reference or (size, pool))), spread=0.5),
        tokens=draw(heads, dim, area, spread=0.3),
        token_bias=draw(heads, area, spread=0.3),
    )
    terms = batch * size[0] * size[1] * (area + pool[0] * pool[1])
    activations = dict(q=q, **around, k_pool=k_pool, v_pool=v_pool)
    return Arguments("aggregated_attention", activations, parameters, constants, terms)


def gated_dwconv(draw: Draw, batch: int, size: Size, channels: int, kernel: int = 3) -> Arguments:
    """Return arguments whose gate and value are one linear layer's output, side by side."""
    parameters = dict(weight=draw(channels, 1, kernel, kernel, spread=1 / kernel), bias=draw(channels))
    activations = dict(g=draw(batch, *size, 2 * channels))
    return Arguments("gated_dwconv", activations, parameters, dict(v=None), _terms(batch, size, kernel))


def dynamic_dwconv(draw: Draw, batch: int, size: Size, channels: int, kernel: int = DYNAMIC_KERNEL) -> Arguments:
    """Return arguments whose kernels are activations too: another network computes them from the image."""
    x = draw(batch, *size, channels)
    weight = draw(batch, channels, kernel, kernel, spread=1 / kernel)
    activations = dict(x=x, weight=weight, bias=draw(batch, channels))
    return Arguments("dynamic_dwconv", activations, {}, terms=_terms(batch, size, kernel))


def multiscale_dwconv(draw: Draw, batch: int, size: Size, channels: int) -> Arguments:
    """Return arguments of TransXNet's feed-forward network: a quarter of the channels per kernel, the first takes the
    remainder."""
    quarter = channels // len(FFN_KERNELS)
    groups = [channels - quarter * (len(FFN_KERNELS) - 1), *[quarter] * (len(FFN_KERNELS) - 1)]
    parameters = {
        f"weights.{i}": draw(n, 1, k, k, spread=1 / k) for i, (n, k) in enumerate(zip(groups, FFN_KERNELS, strict=True))
    }
    biases = {f"biases.{i}": draw(n) for i, n in enumerate(groups)}
    x = draw(batch, *size, channels)
    constants, terms = dict(identity=True, gelu=True), _terms(batch, size, max(FFN_KERNELS))
    return Arguments("multiscale_dwconv", dict(x=x), {**parameters, **biases}, constants, terms)


def gelu_pool(draw: Draw, batch: int, size: Size, pool: Size, channels: int) -> Arguments:
    """Return arguments for a map that is pooled to ``pool``."""
    return Arguments("gelu_pool", dict(x=draw(batch, *size, channels)), {}, dict(size=pool), _terms(1, size, 1))


def _terms(batch: int, size: Size, kernel: int) -> int:
    """Return the terms of a convolution's longest sum, as the operators' tests count them."""
    return batch * size[0] * size[1] * kernel**2
