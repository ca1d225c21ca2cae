"""Registration of fused operators with PyTorch: what torch.compile, torch.export and autograd need, written once.

One PyTorch operator serves all fused implementations. Its last argument names the implementation that was chosen, so
that a traced graph keeps the choice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from operator import index
from typing import Any

import torch
from torch import Tensor

from .backend import Implementation
from .first_use import Kernels, expect
from .host import is_plain, needs_gradient
from .numerics import without_autocast
from .verdicts import distrust

Function = Callable[..., Any]


class FusedOperator:
    """``torch.ops.foveal.<name>(*tensors, *constants, backend)`` with a closed-form backward operator.

    Args:
        name: of the operator; the backward operator is called ``<name>_backward``.
        tensors: names of the inputs, all of which get gradients.
        constants: the other inputs in schema notation, such as ``"int window"``.
        outputs: number of tensors that forward returns: the result, then what it saves for backward, which is not
            differentiable.
        fake: returns empty outputs from tensors and constants, for tracing.
        fake_gradient: returns one empty gradient from the name and the tensor of an input.

    Implementations are added by name: ``forward(*tensors, *constants)`` and
    ``backward(grad, *tensors, *saved, *constants)``, which returns the gradients of all tensors. Both run outside
    autocast.
    """

    def __init__(
        self,
        name: str,
        tensors: tuple[str, ...],
        constants: tuple[str, ...],
        outputs: int,
        fake: Function,
        fake_gradient: Callable[[str, Tensor], Tensor] = lambda name, tensor: tensor.new_empty(tensor.shape),
    ):
        self.name, self.tensors, self.outputs = name, tensors, outputs
        self._implementations: dict[str, tuple[Function, Function]] = {}
        inputs = [f"Tensor {t}" for t in tensors]
        ending = [*constants, "str backend"]
        kept = [f"Tensor kept{i}" for i in range(outputs - 1)]
        self._op = self._define(name, [*inputs, *ending], outputs, self._forward)
        self._op.register_fake(lambda *args: fake(*args[:-1]))
        self._backward_op = self._define(
            f"{name}_backward", ["Tensor grad", *inputs, *kept, *ending], len(tensors), self._backward
        )
        self._backward_op.register_fake(
            lambda grad, *args: _unwrap_single(tuple(map(fake_gradient, tensors, args[: len(tensors)]))),
        )
        self._op.register_autograd(self._differentiate, setup_context=self._save)
        self._backward_op.register_autograd(
            refuse_second_derivative(name), setup_context=lambda ctx, inputs, output: None
        )

    @staticmethod
    def _define(name: str, inputs: list[str], outputs: int, run: Function) -> Any:
        returned = "Tensor" if outputs == 1 else f"({', '.join(['Tensor'] * outputs)})"
        schema = f"({', '.join(inputs)}) -> {returned}"
        return torch.library.custom_op(f"foveal::{name}", run, mutates_args=(), schema=schema)

    def add(self, backend: str, forward: Function, backward: Function) -> Function:
        """Register an implementation. Returns the differentiable function that runs it and returns the result alone."""
        self._implementations[backend] = (forward, backward)

        def run(*call: Any) -> Tensor:
            returned = forward(*call) if self._is_direct(call) else self._op(*call, backend)
            return returned if self.outputs == 1 else returned[0]

        return run

    def _is_direct(self, call: Sequence[Any]) -> bool:
        """Whether nothing needs the registered operator, whose dispatch takes longer than a small call itself: neither
        autograd nor a tracer, nor a profiler, which shows its name."""
        tensors = call[: len(self.tensors)]
        if not is_plain(*tensors) or needs_gradient(*tensors):
            return False
        # Modes such as a default device must not reach into the kernels.
        return not torch._C._len_torch_function_stack() and not torch.autograd._profiler_enabled()

    def evaluate(
        self, backend: str, grad: Tensor, tensors: Sequence[Tensor], constants: Sequence[Any]
    ) -> dict[str, Tensor]:
        """Return the output of an implementation and the gradients of all tensors, without autograd."""
        forward, backward = self._implementations[backend]
        returned = forward(*tensors, *constants)
        out, *kept = (returned,) if self.outputs == 1 else returned
        gradients = backward(grad, *tensors, *kept, *constants)
        names = (f"the gradient of {name}" for name in self.tensors)
        return {"the output": out, **dict(zip(names, gradients, strict=True))}

    def _forward(self, *args: Any) -> Any:
        with without_autocast(args[0].device):
            return self._implementations[args[-1]][0](*args[:-1])

    def _backward(self, *args: Any) -> Any:
        with without_autocast(args[0].device):
            return _unwrap_single(self._implementations[args[-1]][1](*args[:-1]))

    def _save(self, ctx: Any, inputs: tuple, output: Any) -> None:
        count = len(self.tensors)
        kept = () if self.outputs == 1 else output[1:]
        if kept:
            ctx.mark_non_differentiable(*kept)
        ctx.save_for_backward(*inputs[:count], *kept)
        ctx.constants = inputs[count:]

    def _differentiate(self, ctx: Any, grad: Tensor, *_: Any) -> tuple:
        gradients = self._backward_op(grad, *ctx.saved_tensors, *ctx.constants)
        if len(self.tensors) == 1:
            gradients = (gradients,)
        return (*gradients, *(None for _ in ctx.constants))


def _unwrap_single(tensors: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    """The only member of a tuple of one: operators return either a tensor or several."""
    return tensors[0] if len(tensors) == 1 else tensors


def refuse_second_derivative(operator: str) -> Function:
    """A backward function that raises: closed-form backward passes are not differentiable."""

    def refuse(ctx, *grads):
        raise NotImplementedError(
            f"foveal.ops.{operator} has no second derivative on this backend; "
            'wrap the forward pass in `with foveal.ops.use_backend("reference"):` to get one'
        )

    return refuse


def lazy_triton(fused: FusedOperator, kernels: Callable[[], Kernels]) -> Implementation:
    """Return the implementation "triton" of an operator, whose kernels are imported when a call first needs them:
    importing Triton takes longer than importing all of foveal.

    Args:
        fused: the operator that gets ``forward`` and ``backward``. It has an implementation "torch" as well, with which
            the kernels are compared at their first use (``verdicts``).
        kernels: imports and returns the module with ``forward``, ``backward`` and the functions of ``Kernels``.
    """

    def unsupported(*call: Any) -> str | None:
        device = call[0].device
        if device.type != "cuda" and not (device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"):
            return f"Triton needs a CUDA device, the tensors are on {device.type!r}"
        module = kernels()
        reason = module.unsupported(*call)
        if reason is not None:
            return reason
        dtypes = tuple(t.dtype for t in call[: len(fused.tensors)])
        numbers = tuple(index(number) for number in module.compiled_for(*call))  # fixes them in a trace
        return distrust(fused.name, dtypes, numbers, device)

    expect(fused, kernels)
    added = fused.add("triton", lambda *args: kernels().forward(*args), lambda *args: kernels().backward(*args))
    return Implementation("triton", "Triton kernels, one pass", added, unsupported)
