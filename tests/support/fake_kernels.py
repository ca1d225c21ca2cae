"""The operator x * weight, whose Triton kernels are a file that a test writes: right or wrong, and counting calls."""

import importlib.util
import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from foveal.ops.backend import Implementation, Operator
from foveal.ops.fused import FusedOperator, lazy_triton

RIGHT = dict(forward="x * weight", backward="(grad * weight, (grad * x).sum((0, 1, 2)))")
# The factory function and the product have wrong results under the caller's default device and autocast.
SOURCE = """
import torch, triton
from foveal.ops.first_use import Trial

calls = []

def unsupported(x, weight):
    return None

def compiled_for(x, weight):
    return (weight.shape[-1],)

def trials(draw, width):
    for rows in (3, 5):
        yield Trial(draw(2, rows, 1, width), (draw(2, rows, 1, width), draw(width)), (), 2 * rows)

def fail(error):
    raise error

def forward(x, weight):
    calls.append("forward")
    weight = weight * torch.ones(()).to(weight.dtype)
    assert (torch.ones(4, 4) @ torch.ones(4, 4)).dtype is torch.ones(()).dtype
    return {forward}

def backward(grad, x, weight):
    calls.append("backward")
    return {backward}
"""
TRIALS = ["forward", "backward"] * 2  # the calls of a first use
_numbers = itertools.count()


@dataclass(frozen=True)
class Fake:
    """The operator and its kernels."""

    operator: Operator
    kernels: ModuleType

    @property
    def name(self) -> str:
        return self.operator.name

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor:
        """Run the operator as its function in ``api.py`` would."""
        call = self.operator.normalise(x, weight)
        return self.operator.choose(*call).run(*call)


def write_kernels(file: Path, **code: str) -> Path:
    """Write kernels; ``forward`` and ``backward`` replace the right expressions."""
    file.write_text(SOURCE.format(**(RIGHT | code)))
    return file


def fake_operator(file: Path, name: str = "") -> Fake:
    """Create the operator with the kernels in a file, under a new name unless one is given."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    kernels = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kernels)
    name = name or f"fake_{next(_numbers)}"
    fused = FusedOperator(name, ("x", "weight"), (), 1, lambda x, weight: x.new_empty(x.shape))
    right = fused.add(
        "torch", lambda x, weight: x * weight, lambda grad, x, weight: (grad * weight, (grad * x).sum((0, 1, 2)))
    )
    implementations = (
        lazy_triton(fused, lambda: kernels),
        Implementation("torch", "a product", right, lambda *call: None),
    )
    return Fake(Operator(name, lambda x, weight: (x, weight), implementations), kernels)


def arguments(dtype: torch.dtype = torch.float32, width: int = 4) -> tuple[Tensor, Tensor]:
    """x (1, 2, 1, width) and weight (width,), without a random number."""
    x = torch.linspace(-1, 1, 2 * width, dtype=torch.float64, device="cpu").reshape(1, 2, 1, width)
    weight = torch.linspace(1, math.e, width, dtype=torch.float64, device="cpu")
    return x.to(dtype), weight.to(dtype)
