"""Checks for a non-finite loss, gradient or weight, and where it came from.

Loss and gradients are checked before the update that they would spoil. So the weights are still those that produced
them, the same pass can be repeated to find the layer, and saved weights are always finite.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from foveal.errors import FovealError


class Glance:
    """A scalar that is copied from the device while the device continues to compute.

    The copy is queued after the forward pass only: it has arrived by the time the backward pass has been queued, and
    nothing waits.
    """

    def __init__(self, value: Tensor) -> None:
        self._value = value.detach()
        self._arrived: torch.cuda.Event | None = None
        if self._value.is_cuda:
            host = torch.empty((), dtype=self._value.dtype, pin_memory=True)
            self._value = host.copy_(self._value, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def number(self) -> float:
        """Return the value; wait if it has not arrived."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._value.item()


def refuse_nonfinite(loss: float, where: str, model: nn.Module, replay: Callable[[], Any]) -> None:
    """Raise FovealError if ``loss`` is not finite, naming the first layer that computed such a value.

    Args:
        where: Step, epoch and learning rate in words.
        model: The bare model that computed this loss.
        replay: Runs the same forward pass again.
    """
    if math.isfinite(loss):
        return
    raise FovealError(
        f"The loss became {loss} at {where} and training stopped; {_origin(model, replay)}; what was saved before is "
        "untouched: start again with a lower --lr, or with --precision fp32."
    )


def refuse_nonfinite_gradients(norm: float, where: str, model: nn.Module) -> None:
    """Raise FovealError if the ``norm`` of all gradients is not finite, naming the parameter where it began.

    Non-finite values spread from a layer to those before it, so they began at the last parameter that has one.

    Args:
        where: Step, epoch and learning rate in words.
        model: The bare model with its gradients.
    """
    if math.isfinite(norm):
        return
    bad = [name for name, p in model.named_parameters() if p.grad is not None and not _is_finite(p.grad)]
    origin = f"the last of {len(bad)} weights whose gradients are not finite is {bad[-1]}" if bad else "it overflowed"
    raise FovealError(
        f"The norm of the gradients became {norm} at {where} and training stopped; {origin}; what was saved before is "
        "untouched: start again with a lower --lr, or with --precision fp32."
    )


def refuse_nonfinite_weights(model: nn.Module, where: str) -> None:
    """Raise FovealError if a weight or buffer of ``model`` is not finite, before it is saved."""
    bad = [name for name, value in model.state_dict().items() if not _is_finite(value)]
    if bad:
        raise FovealError(
            f"After {where} {bad[0]} is not finite and nothing was saved; what was saved before is untouched: start "
            "again with a lower --lr, or with --precision fp32."
        )


def _origin(model: nn.Module, replay: Callable[[], Any]) -> str:
    layer = first_bad_layer(model, replay)
    if layer is None:
        return "every layer's values are finite, only the loss is not"
    name, owned = layer
    spoilt = ", whose weights became non-finite in an earlier update" if owned else ""
    return f"the first layer with a value that is not finite is {name}{spoilt}"


def first_bad_layer(model: nn.Module, replay: Callable[[], Any]) -> tuple[str, bool] | None:
    """Find the innermost module whose output is the first non-finite one when ``replay`` runs ``model``.

    Returns:
        Its name with its type, and whether one of its own weights is not finite; None if every output is finite.
    """
    found: list[tuple[str, bool]] = []

    def look(name: str, module: nn.Module, output: Any) -> None:
        if not found and not _is_finite(output):
            spoilt = not _is_finite(list(module.parameters(recurse=False)))
            found.append((f"{name or 'the model'} ({type(module).__name__})", spoilt))

    hooks = [
        module.register_forward_hook(lambda module, inputs, output, name=name: look(name, module, output))
        for name, module in model.named_modules()
    ]
    try:
        with torch.no_grad(), _without_exchange(model):
            replay()
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


@contextmanager
def _without_exchange(model: nn.Module) -> Iterator[None]:
    """Let synchronised batch norms use their running statistics: the other processes do not replay."""
    norms = [module for module in model.modules() if isinstance(module, nn.SyncBatchNorm) and module.training]
    for norm in norms:
        norm.training = False
    try:
        yield
    finally:
        for norm in norms:
            norm.training = True


def _is_finite(values: Any) -> bool:
    """Return whether all numbers of nested tuples, lists, dicts and tensors are finite."""
    if isinstance(values, Tensor):
        return not values.is_floating_point() or bool(values.isfinite().all())
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, list | tuple):
        return True
    return all(map(_is_finite, values))
