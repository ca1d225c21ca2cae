"""An operator as PyTorch sees it: what torch.compile, torch.export and autograd need to know of it, written once.

One PyTorch operator serves all fused implementations; its last argument names the one that the dispatcher chose, so a
traced graph keeps the choice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .numerics import second_derivative_refused, without_autocast

Function = Callable[..., Any]


class FusedOperator:
    """`torch.ops.foveal.<name>(*tensors, *constants, backend)` with a closed-form backward operator.

    Args:
        name: of the operator; the backward one has `_backward` behind it.
        tensors: names of the inputs, all of which get gradients.
        constants: of the other inputs, as a schema writes them: "int window".
        outputs: how many tensors forward returns: the result, then what it keeps for backward, which is not
            differentiable.
        fake: what forward returns, without numbers, of tensors and constants.
        fake_gradient: the same of one gradient, from its name and its tensor.

    Implementations are added by name: `forward(*tensors, *constants)` and
    `backward(grad, *tensors, *kept, *constants)`, which returns the gradients of all tensors. Both run outside
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
            lambda grad, *args: _alone(tuple(map(fake_gradient, tensors, args[: len(tensors)]))),
        )
        self._op.register_autograd(self._differentiate, setup_context=self._save)
        self._backward_op.register_autograd(
            second_derivative_refused(name), setup_context=lambda ctx, inputs, output: None
        )

    @staticmethod
    def _define(name: str, inputs: list[str], outputs: int, run: Function) -> Any:
        returned = "Tensor" if outputs == 1 else f"({', '.join(['Tensor'] * outputs)})"
        schema = f"({', '.join(inputs)}) -> {returned}"
        return torch.library.custom_op(f"foveal::{name}", run, mutates_args=(), schema=schema)

    def add(self, backend: str, forward: Function, backward: Function) -> Function:
        """Make an implementation known; returns the function that runs it, differentiable, and gives the result."""
        self._implementations[backend] = (forward, backward)

        def run(*call: Any) -> Tensor:
            returned = self._op(*call, backend)
            return returned if self.outputs == 1 else returned[0]

        return run

    def _forward(self, *args: Any) -> Any:
        with without_autocast(args[0].device):
            return self._implementations[args[-1]][0](*args[:-1])

    def _backward(self, *args: Any) -> Any:
        with without_autocast(args[0].device):
            return _alone(self._implementations[args[-1]][1](*args[:-1]))

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


def _alone(tensors: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    """A tuple of one as its member: operators return either a tensor or several."""
    return tensors[0] if len(tensors) == 1 else tensors
