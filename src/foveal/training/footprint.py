"""The memory that training takes on one device, estimated without computing anything.

A training step runs on fake tensors, which have shapes but no content, while every storage that is allocated and freed
is counted: the peak is the memory that the device needs.
"""

import copy
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from foveal.training.config import TrainConfig
from foveal.training.frozen import rest_frozen
from foveal.training.optimiser import create_optimizer
from foveal.training.processes import DTYPES


@dataclass(frozen=True)
class Footprint:
    """Bytes on one device during a training step.

    Workspaces of kernels, fragmentation of the allocator, the device's libraries and, on the CPU, the loading processes
    are not included. On a CPU TransXNet takes less than this, where its batch norms belong to the kernels around them.
    """

    weights: int
    """Parameters and buffers."""
    gradients: int
    exchange: int
    """Buckets in which several processes sum their gradients; 0 for one process."""
    optimizer: int
    average: int
    """The moving average of the weights; 0 if there is none."""
    activations: int
    """Peak of one forward and backward pass beyond all of these, including its images."""

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.exchange + self.optimizer + self.average + self.activations


def footprint(model: nn.Module, config: TrainConfig, processes: int, step: Callable[[nn.Module], Tensor]) -> Footprint:
    """Estimate the memory of a device that trains ``model``, which is on the meta device and stays unchanged.

    Args:
        processes: Number of devices that train together.
        step: Creates one device batch on the CPU, calls the given model, and returns the loss; called once.
    """
    learned = sum(_size(parameter) for parameter in model.parameters() if parameter.requires_grad)
    weights = sum(map(_size, [*model.parameters(), *model.buffers()]))
    return Footprint(
        weights=weights,
        gradients=learned,
        exchange=learned if processes > 1 else 0,
        optimizer=_optimizer_bytes(model, config),
        average=weights if config.ema_decay else 0,
        activations=_activation_bytes(model, config, step),
    )


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _optimizer_bytes(model: nn.Module, config: TrainConfig) -> int:
    """Return the size of the optimiser's state after a step, from a step on the meta device."""
    model = copy.deepcopy(model)
    optimizer = create_optimizer(model, config)
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    states = (state.values() for state in optimizer.state.values())
    return sum(_size(value) for values in states for value in values if isinstance(value, Tensor))


def _activation_bytes(model: nn.Module, config: TrainConfig, step: Callable[[nn.Module], Tensor]) -> int:
    """Return the peak of live storages in a pass, without weights and finished gradients."""
    fake = copy.deepcopy(model).train()
    rest_frozen(fake)
    if config.sync_bn:  # there are no processes here; evaluation mode takes the same memory and allows a batch of 1
        for module in fake.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
    if config.channels_last:
        fake = fake.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with FakeTensorMode(), _Storages() as storages:
        _put_on_fake_tensors(fake)
        for tensor in [*fake.parameters(), *fake.buffers()]:
            storages.forget(tensor)
        for parameter in fake.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(storages.forget_gradient)
        if config.grad_checkpointing and hasattr(fake, "set_grad_checkpointing"):
            fake.set_grad_checkpointing(True)  # type: ignore[operator]
        storages.highest = storages.now
        with torch.autocast("cpu", DTYPES[config.precision], enabled=config.precision != "fp32"):
            loss = step(fake)
        loss.backward()
    return storages.highest


def _put_on_fake_tensors(model: nn.Module) -> None:
    """Replace parameters and buffers on the meta device by fake ones on the CPU."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(_fake_like(parameter), parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = _fake_like(buffer)


def _fake_like(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)


class _Storages(TorchDispatchMode):
    """Count the bytes of all live storages that operators return."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.highest = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(returned):
            if isinstance(tensor, Tensor):
                self._meet(tensor)
        return returned

    def _meet(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:  # a view, or changed in place
            return
        self._sizes[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.highest = max(self.highest, self.now)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self._sizes.pop(key, 0)

    def forget(self, tensor: Tensor) -> None:
        """Stop counting a tensor that stays alive."""
        key = tensor.untyped_storage()._cdata
        self.now -= self._sizes.get(key, 0)
        self._sizes[key] = 0

    def forget_gradient(self, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self.forget(parameter.grad)
