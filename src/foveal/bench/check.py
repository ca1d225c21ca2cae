"""A check before any timing that all operators compute their formula.

Every backend that could take a call is compared with the reference in float64, on the device and in the dtypes of the
benchmark: outputs and, if training is timed, gradients. The error may be twice that of plain PyTorch in the same dtype,
plus an allowance for rounding, which is the tolerance of the operators' tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from foveal import ops
from foveal.bench import arguments
from foveal.bench.arguments import Arguments, normal
from foveal.bench.settings import DTYPES
from foveal.errors import FovealError
from foveal.ops.deviation import Deviation, relative_error, rounding

_BATCH, _SIZE, _POOL = 2, (13, 10), (3, 2)  # query rows fall half a pixel between rows of pooled keys
_CHANNELS = 72

Case = Callable[[arguments.Draw], Arguments]


def _attention(draw: arguments.Draw) -> Arguments:
    return arguments.aggregated_attention(draw, _BATCH, _SIZE, _POOL, heads=3)


def _attention_transposed(draw: arguments.Draw) -> Arguments:
    return arguments.aggregated_attention(draw, _BATCH, _SIZE[::-1], _POOL[::-1], heads=3)


def _attention_to_all(draw: arguments.Draw) -> Arguments:
    """The attention of the last stage, with a table of another map."""
    reference = (7, 6), (7, 6)
    return arguments.aggregated_attention(draw, _BATCH, _SIZE, _SIZE, heads=3, window=0, reference=reference)


#: Small calls of every operator, with significant borders and sides that no block size divides. Attention is called
#: with half pixels between rows, between columns, with a dense bias, and without a window and with a resized table.
CASES: dict[str, tuple[Case, ...]] = {
    "aggregated_attention": (
        _attention,
        _attention_transposed,
        _attention_to_all,
        lambda draw: _attention(draw).dense(),
    ),
    "gelu_pool": (lambda draw: arguments.gelu_pool(draw, _BATCH, _SIZE, _POOL, _CHANNELS),),
    "gated_dwconv": (lambda draw: arguments.gated_dwconv(draw, _BATCH, _SIZE, _CHANNELS),),
    "dynamic_dwconv": (lambda draw: arguments.dynamic_dwconv(draw, _BATCH, _SIZE, _CHANNELS),),
    "multiscale_dwconv": (lambda draw: arguments.multiscale_dwconv(draw, _BATCH, _SIZE, _CHANNELS + 1),),
}


def check_operators(
    device: str, dtypes: tuple[str, ...], training: bool, on_step: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Check all operators.

    Args:
        device: device to run on.
        dtypes: keys of ``DTYPES``.
        training: whether to compare gradients as well.
        on_step: called with (done, total) after each comparison.

    Raises:
        FovealError: an operator fails; the message names it.
    """
    pairs = [(dtype, parameters) for dtype in dtypes for parameters in sorted({dtype, "fp32"})]  # cast and autocast
    comparisons = [(operator, case, *pair) for operator, cases in CASES.items() for case in cases for pair in pairs]
    with full_float32():
        for done, (operator, case, dtype, parameters) in enumerate(comparisons, 1):
            _check(operator, case, dtype, parameters, device, training)
            on_step(done, len(comparisons))


class Comparison:
    """One call by its formula in float64 and by plain PyTorch in its own dtype, with which backends are compared.

    Args:
        call: the call, in the dtypes that are checked.
        training: whether to compare gradients as well.
    """

    def __init__(self, call: Arguments, training: bool):
        self.call, self.training = call, training
        self._exact = _results(call.to(torch.float64, torch.float64), "reference", training)
        self._plain = _results(call, "reference", training)

    def deviations(self, backend: str) -> list[Deviation]:
        """Run one backend, and return the deviation of the output and then, in training, of every gradient."""
        found = _results(self.call, backend, self.training)
        return [self._deviation(what, found[what]) for what in self._exact]

    def _deviation(self, what: str, found: Tensor) -> Deviation:
        exact, plain = self._exact[what], self._plain[what]
        return Deviation(what, relative_error(found, exact), _budget(plain, exact, self.call.dtype, self.call.terms))


def _check(operator: str, case: Case, dtype: str, parameters: str, device: str, training: bool) -> None:
    call = case(normal(device)).to(DTYPES[dtype], DTYPES[parameters])
    comparison = Comparison(call, training)
    backends = [name for name, reason in call.available_backends().items() if reason is None and name != "reference"]
    for backend in backends:
        try:
            deviations = comparison.deviations(backend)
        except RuntimeError as error:
            raise FovealError(_refusal(operator, backend, dtype, f"fails: {str(error).splitlines()[0]}")) from error
        for one in deviations:
            if one.error > one.allowed:
                raise FovealError(_refusal(operator, backend, dtype, str(one)))


def _refusal(operator: str, backend: str, dtype: str, wrong: str) -> str:
    return f"Nothing is timed, because {operator} on backend {backend} in {dtype} {wrong}: run `make test` for details."


def _results(call: Arguments, backend: str, training: bool) -> dict[str, Tensor]:
    """Return the output and, in training, the gradient of every tensor."""
    with ops.use_backend(backend):
        if not training:
            with torch.no_grad():
                return {"the output": call.run()}
        leaves = call.leaves()
        out = leaves.run()
    weighting = normal(str(out.device), seed=1)(*out.shape).to(torch.bfloat16).to(out.dtype)  # the same in every dtype
    gradients = torch.autograd.grad(out, list(leaves.tensors.values()), weighting)
    named = {f"the gradient of {name}": g for name, g in zip(leaves.tensors, gradients, strict=True)}
    return {"the output": out.detach(), **named}


def _budget(plain: Tensor, exact: Tensor, dtype: torch.dtype, terms: int) -> float:
    """Return the allowed error for activations of ``dtype`` and sums of ``terms``, relative to the largest value."""
    return 2 * relative_error(plain, exact) + rounding(dtype, terms)


@contextmanager
def full_float32() -> Iterator[None]:
    """Disable TF32, which would be another dtype, during the check."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
