"""A kernel's first use on a device: small calls, forward and backward, next to the ``torch`` implementation.

The right answer is computed on the CPU in float64, so it shares nothing with the device. The budget is that of the
operators' tests: twice the error of plain PyTorch, which computes half types in float32 and rounds once (at most half
an eps), plus the rounding of the result and of the longest sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .deviation import Deviation, relative_error, rounding

if TYPE_CHECKING:
    from .fused import FusedOperator

Dtypes = tuple[torch.dtype, ...]
Numbers = tuple[int, ...]
_subjects: dict[str, tuple[FusedOperator, Callable[[], Kernels]]] = {}
_FLOOR = 1.0  # gradients of order 1 may cancel to 0, as those of q and k for heads of one channel


class Draw(Protocol):
    """Draws normally distributed numbers, in float64 on the CPU."""

    def __call__(self, *shape: int, spread: float = 1.0) -> Tensor: ...


class Trial(NamedTuple):
    """One small call of an operator, in float64 on the CPU.

    ``terms`` is the length of the longest sum in an output or a gradient.
    """

    grad: Tensor
    tensors: tuple[Tensor, ...]
    constants: tuple[int | list[int], ...]
    terms: int


class Kernels(Protocol):
    """A module of Triton kernels.

    ``forward`` and ``backward`` are those of ``FusedOperator``; ``unsupported`` returns why they cannot take a call, or
    None. ``compiled_for`` returns the numbers of a call that separate kernels are compiled for, except what changes
    with the image. ``trials`` takes these numbers and returns two calls that differ in what changes with the image; no
    tile divides their sides.
    """

    __file__: str
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    unsupported: Callable[..., str | None]
    compiled_for: Callable[..., Numbers]
    trials: Callable[..., Iterable[Trial]]


def expect(fused: FusedOperator, kernels: Callable[[], Kernels]) -> None:
    """Make the kernels of an operator known by its name; ``kernels`` imports and returns them."""
    _subjects[fused.name] = fused, kernels


def subject(operator: str) -> tuple[FusedOperator, Kernels]:
    """Return a fused operator and its kernels."""
    fused, kernels = _subjects[operator]
    return fused, kernels()


def examine(operator: str, dtypes: Dtypes, numbers: Numbers, device: torch.device) -> Deviation | BaseException:
    """Try kernels, and return the deviation that uses the largest share of what it is allowed, or what they raised.

    Args:
        operator: name of the fused operator.
        dtypes: of its tensors.
        numbers: what ``compiled_for`` returned.

    Runs in a thread of its own, because PyTorch keeps per thread what must have no influence: autocast, inference mode,
    tracers, function transforms, the default device, the current stream. No global random state is used.
    """
    fused, kernels = subject(operator)
    with ThreadPoolExecutor(max_workers=1) as thread:
        trying = thread.submit(_examine, fused, kernels, dtypes, numbers, device)
    return trying.exception() or trying.result()


def _examine(fused, kernels, dtypes, numbers, device) -> Deviation:
    generator = torch.Generator("cpu").manual_seed(0)

    def draw(*shape: int, spread: float = 1.0) -> Tensor:
        return spread * torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")

    found: list[Deviation] = []
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        for trial, sliced in zip(kernels.trials(draw, *numbers), (False, True), strict=True):
            found += _deviations(fused, trial, dtypes, device, sliced)
    return max(found, key=lambda one: one.error / one.allowed)


def _deviations(fused, trial: Trial, dtypes: Dtypes, device: torch.device, sliced: bool) -> list[Deviation]:
    """The deviations of all results of a call, with its work in few programs and, on a GPU, in as many as it holds."""
    from .triton import few_programs

    grad, *tensors = (t.to(dtype) for t, dtype in zip((trial.grad, *trial.tensors), (dtypes[0], *dtypes), strict=True))
    exact = fused.evaluate("torch", grad.double(), [t.double() for t in tensors], trial.constants)
    grad, *tensors = (_slice_of_nan(t.to(device)) if sliced else t.to(device) for t in (grad, *tensors))
    found = []
    for few in (True, False) if device.type == "cuda" else (True,):
        with few_programs() if few else nullcontext():
            results = fused.evaluate("triton", grad, tensors, trial.constants)
        for (what, result), dtype in zip(results.items(), (dtypes[0], *dtypes), strict=True):
            error = relative_error(result.cpu(), exact[what], _FLOOR) if result.dtype == dtype else math.inf
            coarser = max(dtype, dtypes[0], key=lambda one: torch.finfo(one).eps)
            found.append(Deviation(what, error, torch.finfo(coarser).eps + rounding(coarser, trial.terms)))
    return found


def _slice_of_nan(t: Tensor) -> Tensor:
    """The same values at an odd place of wider memory that is otherwise NaN, if ``t`` is a map; else ``t``."""
    if t.ndim < 4:
        return t
    view = t.new_full((*t.shape[:-1], t.shape[-1] + 3), torch.nan)[..., 1:-2]
    return view.copy_(t)
