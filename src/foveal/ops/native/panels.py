"""Weights as the compiled products read them: in panels of outputs (``native/products.h``)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Keep = Callable[[object, tuple[Tensor, ...], Callable[[], Tensor]], Tensor]


def keep_nothing(key: object, weights: tuple[Tensor, ...], compute: Callable[[], Tensor]) -> Tensor:
    """Keep nothing: a ``Keep`` that returns ``compute()``."""
    return compute()


def panels(weight: Tensor, panel: int) -> Tensor:
    """Return a weight (outputs, inputs) as (panels, inputs, panel)."""
    return weight.unflatten(0, (-1, panel)).transpose(1, 2)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Return all numbers of ``parts`` in one float32 tensor."""
    return torch.cat([part.flatten().float() for part in parts])


def addresses(packed: Tensor, sizes: Sequence[int]) -> list[int]:
    """Return the addresses of the parts of ``joined``, which have ``sizes`` numbers."""
    starts = itertools.accumulate(sizes[:-1], initial=0)
    return [packed.data_ptr() + start * packed.element_size() for start in starts]
