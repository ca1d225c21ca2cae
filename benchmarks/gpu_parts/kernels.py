"""The part "kernels": every backend of every operator next to the formula in float64, forward and backward."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any

import torch

from foveal.bench import arguments
from foveal.bench.arguments import Arguments, normal
from foveal.bench.check import Comparison, full_float32
from foveal.bench.settings import DTYPES
from foveal.ops.deviation import Deviation
from foveal.ops.first_use import Numbers, examine, subject
from foveal.types import Size
from gpu_parts.journal import Journal, Row, rounded, sentence

OPERATORS = {
    "attention": ("aggregated_attention",),
    "convolution": ("gated_dwconv", "dynamic_dwconv", "multiscale_dwconv", "gelu_pool"),
}
_TABLE = "aggregated_attention_table"
#: Fused operators with Triton kernels, by operator, and the numbers that these are compiled for in the networks: of
#: attention the head dimension, the window, and whether the table of the position bias is resized.
COMPILED_FOR = {
    "aggregated_attention": (
        ("aggregated_attention", (arguments.HEAD_DIM, arguments.WINDOW)),
        *((_TABLE, (arguments.HEAD_DIM, window, resized)) for window in (arguments.WINDOW, 0) for resized in (0, 1)),
    ),
    "gated_dwconv": (("gated_dwconv", (3,)),),
    "dynamic_dwconv": (("dynamic_dwconv", (arguments.DYNAMIC_KERNEL,)),),
}
Case = Callable[[arguments.Draw], Arguments]


def kernels(journal: Journal, lane: str, device: str, small: bool) -> None:
    """Compare the operators of one group in one dtype, the networks' shapes of all of them first. In half types, the
    first shape is also run with float32 parameters, as under autocast. Then kernels are tried as at their first use."""
    group, dtype = lane.split()
    shapes = [
        (number, operator, shape, case)
        for operator in OPERATORS[group]
        for number, (shape, case) in enumerate(cases(operator, small).items())
    ]
    with full_float32():
        for number, operator, shape, case in sorted(shapes, key=lambda one: one[0]):
            for parameters in (dtype, "fp32") if number == 0 and dtype != "fp32" else (dtype,):
                name = shape if parameters == dtype else f"{shape} autocast"
                call = (case, dtype, parameters, device)
                about = {"operator": operator, "shape": name, "dtype": dtype}
                journal.measure(f"{operator} {name} {dtype}", about, lambda call=call: compare(*call))
    uses = [use for operator in OPERATORS[group] for use in COMPILED_FOR.get(operator, ())]
    for operator, numbers in uses:
        name = f"first use {' '.join(map(str, numbers))}"
        about = {"operator": operator, "shape": name, "dtype": dtype}
        use = (operator, numbers, dtype, device)
        journal.measure(f"{operator} {name} {dtype}", about, lambda use=use: first_use(*use))


def compare(case: Case, dtype: str, parameters: str, device: str) -> Row:
    """Return the largest deviation of every backend, as a share of what is allowed."""
    call = case(normal(device)).to(DTYPES[dtype], DTYPES[parameters])
    comparison = Comparison(call, training=True)
    backends: dict[str, Row] = {}
    for backend, reason in call.available_backends().items():
        if backend == "triton" and reason is not None:
            backends[backend] = {"failed": f"does not run: {reason}"}
        elif backend != "reference" and reason is None:
            backends[backend] = compare_backend(comparison, backend)
    failed = [f"{backend} {row['failed']}" for backend, row in backends.items() if "failed" in row]
    return {"backends": backends, **({"failed": failed[0]} if failed else {})}


def first_use(operator: str, numbers: Numbers, dtype: str, device: str) -> Row:
    """Return the verdict on Triton kernels before their first call by a network, and the seconds that it takes."""
    fused, _ = subject(operator)
    start = time.perf_counter()
    found = examine(operator, (DTYPES[dtype],) * len(fused.tensors), numbers, torch.device(device))
    seconds = round(time.perf_counter() - start, 2)
    row = judged(found) if isinstance(found, Deviation) else {"failed": sentence(found)}
    failed = {"failed": f"triton {row['failed']}"} if "failed" in row else {}
    return {"backends": {"triton": row}, "seconds": seconds, **failed}


def compare_backend(comparison: Comparison, backend: str) -> Row:
    """Return the deviation of the tensor that uses the largest share of what it is allowed."""
    try:
        worst = max(comparison.deviations(backend), key=lambda one: one.error / one.allowed)
    except Exception as error:  # a kernel that does not compile or run; the other backends are still compared
        return {"failed": sentence(error), "trace": traceback.format_exc()[-4000:]}
    return judged(worst)


def judged(worst: Deviation) -> Row:
    """Return a deviation as a row, which has failed if more than is allowed."""
    row = {"tensor": worst.what, "error": f"{worst.error:.1e}", "allowed": f"{worst.allowed:.1e}"}
    row |= {"share": rounded(worst.error / worst.allowed)} if worst.error < float("inf") else {}
    return row if worst.error <= worst.allowed else {**row, "failed": str(worst)}


def cases(operator: str, small: bool) -> dict[str, Case]:
    """Return six calls of an operator, or two small ones, by their shape."""
    return attention_cases(small) if operator == "aggregated_attention" else convolution_cases(operator, small)


def attention_case(
    size: Size,
    pool: Size,
    heads: int,
    dim: int = arguments.HEAD_DIM,
    window: int = 3,
    dense: bool = False,
    reference: tuple[Size, Size] | None = None,
) -> Case:
    """Return attention with a table of offsets as in the networks, or with a dense bias."""

    def make(draw: arguments.Draw) -> Arguments:
        call = arguments.aggregated_attention(draw, 2, size, pool, heads, dim, window, reference)
        return call.dense() if dense else call

    return make


def convolution_case(operator: str, size: Size, channels: int, **options: Any) -> Case:
    """Return a call of another operator with two samples."""
    return lambda draw: getattr(arguments, operator)(draw, 2, size, channels=channels, **options)


def attention_cases(small: bool) -> dict[str, Case]:
    """Return attention by shape: map > pooled map, heads x channels, window. The networks' shapes come first; then a
    resized table with and without a window, a dense bias next to more pooled keys than a tile holds, and wide windows
    and heads."""
    if small:
        return {
            "5x6>2x3 2x8 w3 dense": attention_case((5, 6), (2, 3), 2, 8, dense=True),
            "4x5>3x2 1x16 w5": attention_case((4, 5), (3, 2), 1, 16, 5),
        }
    return {
        "56x56>7x7 3x24 w3": attention_case((56, 56), (7, 7), 3),
        "7x7>7x7 24x24 w0": attention_case((7, 7), (7, 7), 24, window=0),
        "21x34>5x8 3x24 w3 resized": attention_case((21, 34), (5, 8), 3, reference=((14, 14), (7, 7))),
        "9x11>9x11 3x24 w0 resized": attention_case((9, 11), (9, 11), 3, window=0, reference=((7, 7), (7, 7))),
        "20x28>10x14 2x32 w5 dense": attention_case((20, 28), (10, 14), 2, 32, 5, dense=True),
        "9x11>4x5 2x64 w7": attention_case((9, 11), (4, 5), 2, 64, 7),
    }


def convolution_cases(operator: str, small: bool) -> dict[str, Case]:
    """Return one of the other operators by shape: map, channels, and the kernel or the pooled map. The first two are
    the networks' shapes."""
    network = {"gated_dwconv": (384, 768), "dynamic_dwconv": (32, 160), "multiscale_dwconv": (384, 1280)}
    first, second = network.get(operator, (72, 144))
    maps = [((56, 56), first), ((14, 14), second), ((13, 10), 72), ((10, 13), 73), ((1, 9), 24), ((9, 11), 200)]
    kernels = {"gated_dwconv": (3, 3, 3, 3, 5, 7), "dynamic_dwconv": (7, 7, 7, 7, 3, 5)}.get(operator)
    pools = ((7, 7), (7, 7), (3, 2), (2, 3), (1, 4), (4, 5)) if operator == "gelu_pool" else None
    if small:
        maps, kernels, pools = [((5, 6), 16), ((4, 7), 9)], kernels and (3, 5), pools and ((2, 3), (3, 2))
    found = {}
    for place, ((height, width), channels) in enumerate(maps):
        options = {"kernel": kernels[place]} if kernels else {"pool": pools[place]} if pools else {}
        ending = f" k{kernels[place]}" if kernels else ">{}x{}".format(*pools[place]) if pools else ""
        name = f"{height}x{width} {channels}{ending}"
        found[name] = convolution_case(operator, (height, width), channels, **options)
    return found
