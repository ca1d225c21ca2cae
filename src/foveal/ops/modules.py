"""When modules may be computed without being called, as kernels do that compute several layers in one."""

from __future__ import annotations

from torch import nn
from torch.nn.modules import module as _torch


def is_plain_module(kind: type[nn.Module], *modules: nn.Module | None) -> bool:
    """Whether calling each of these modules would run the forward of ``kind`` and nothing else.

    Not so for a subclass (a parametrized or quantized layer is one), a wrapper such as LoRA's, a ``forward`` set on the
    module itself, or hooks, be they of the module or of all modules. A GELU must be the exact one.
    """
    if (
        _torch._global_forward_hooks
        or _torch._global_forward_pre_hooks
        or _torch._global_backward_hooks
        or _torch._global_backward_pre_hooks
    ):
        return False
    return all(type(m) is kind and not _is_changed(m) for m in modules)


def is_plain_sequence(module: nn.Sequential, *kinds: type[nn.Module]) -> bool:
    """Whether ``module`` is an nn.Sequential of plain modules of these kinds, in this order, and is plain itself."""
    if not is_plain_module(nn.Sequential, module) or len(module) != len(kinds):
        return False
    return all(map(is_plain_module, kinds, module))


def _is_changed(module: nn.Module) -> bool:
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(hooks) or "forward" in module.__dict__ or getattr(module, "approximate", "none") != "none"
