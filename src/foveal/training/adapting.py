"""A model as it is trained: where it is, how it lies in memory, and what its batch norm needs."""

import torch
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from foveal.errors import FovealError
from foveal.training.batching import Batching
from foveal.training.config import TrainConfig
from foveal.training.processes import Processes


def adapt(model: nn.Module, config: TrainConfig, processes: Processes) -> nn.Module:
    """Return the model on the device, with the memory format, gradient checkpointing and batch norm of the settings.

    Raises:
        FovealError: the model or the device does not have these.
    """
    if config.grad_checkpointing:
        if not hasattr(model, "set_grad_checkpointing"):
            raise FovealError(f"{type(model).__name__} has no gradient checkpointing: leave --grad-checkpointing out.")
        model.set_grad_checkpointing(True)  # type: ignore[operator]
    if config.sync_bn and processes.share.count > 1 and has_batch_norm(model):
        if processes.device.type == "cpu":
            raise FovealError("PyTorch synchronises batch norm only on GPUs: start one process on this machine.")
        model = convert_sync_batchnorm(model)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.to(processes.device)


def has_batch_norm(model: nn.Module) -> bool:
    """Return whether the loss of an image depends on others through batch norm."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def normalised_together(batching: Batching, config: TrainConfig) -> int:
    """Return the number of images over which batch norm computes statistics."""
    return batching.device * (batching.processes if config.sync_bn else 1)


def check_batch_norm(model: nn.Module, batching: Batching, config: TrainConfig) -> None:
    """Raise FovealError for a device batch that batch norm cannot be trained with."""
    if has_batch_norm(model) and normalised_together(batching, config) == 1:
        raise FovealError(
            f"{type(model).__name__} has batch norm, which cannot be trained with a device batch of 1: pass a larger "
            "--device-batch-size or --batch-size."
        )
