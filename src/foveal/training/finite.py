"""The watch for a loss or a gradient that is no number, and where it came from.

Both are looked at before the update that they would spoil. So the weights are still those that produced them, the same
pass can be run again to find the layer, and what is saved is never spoilt.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from foveal.errors import FovealError


class Glance:
    """A scalar on its way from the device while the device goes on computing.

    The copy is ordered behind the forward pass alone: by the time the backward pass has been queued it has arrived, and
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
        """The value; waits for it where it has not arrived."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._value.item()


def refuse_nonfinite(loss: float, where: str, model: nn.Module, replay: Callable[[], Any]) -> None:
    """Raise FovealError where ``loss`` is infinite or not a number, naming the first layer that computed such a value.

    Args:
        where: step, epoch and learning rate, in words.
        model: the bare model, as it was when it gave this loss.
        replay: runs the same forward pass again.
    """
    if math.isfinite(loss):
        return
    raise FovealError(
        f"The loss became {loss} at {where} and training stopped; {_origin(model, replay)}; what was saved before is "
        "untouched: start again with a lower --lr, or with --precision fp32."
    )


def refuse_nonfinite_gradients(norm: float, where: str, model: nn.Module) -> None:
    """Raise FovealError where the ``norm`` of all gradients is infinite or not a number, naming where it began.

    Such numbers spread from a layer to those before it, so it began at the last parameter that has one.

    Args:
        where: step, epoch and learning rate, in words.
        model: the bare model, its gradients as the backward pass left them.
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
    """Raise FovealError where a weight or buffer of ``model`` is infinite or not a number, before it is saved."""
    bad = [name for name, value in model.state_dict().items() if not _is_finite(value)]
    if bad:
        raise FovealError(
            f"After {where} {bad[0]} is not finite and nothing was saved; what was saved before is untouched: start "
            "again with a lower --lr, or with --precision fp32."
        )


def _origin(model: nn.Module, replay: Callable[[], Any]) -> str:
    layer = first_bad_layer(model, replay)
    if layer is None:
        return "every layer's values are finite, the loss alone is not"
    name, owned = layer
    spoilt = ", whose weights an earlier update spoilt" if owned else ""
    return f"the first layer with a value that is not finite is {name}{spoilt}"


def first_bad_layer(model: nn.Module, replay: Callable[[], Any]) -> tuple[str, bool] | None:
    """The innermost module whose output is the first not to be finite when ``replay`` runs ``model``.

    Returns:
        Its name with its type, and whether one of its own weights is not finite; None where every output is finite.
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
    """Synchronised batch norms use their running statistics: the other processes do not replay with us."""
    norms = [module for module in model.modules() if isinstance(module, nn.SyncBatchNorm) and module.training]
    for norm in norms:
        norm.training = False
    try:
        yield
    finally:
        for norm in norms:
            norm.training = True


def _is_finite(values: Any) -> bool:
    """Whether all numbers of a nest of tuples, lists, dicts and tensors are."""
    if isinstance(values, Tensor):
        return not values.is_floating_point() or bool(values.isfinite().all())
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, list | tuple):
        return True
    return all(map(_is_finite, values))
