"""Triton kernels are imported when a call first needs them: Triton takes longer to import than all of foveal."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .backend import Implementation
from .fused import FusedOperator


def triton_implementation(
    fused: FusedOperator, kernels: Callable[[], ModuleType], run: Callable[[Callable], Callable] = lambda run: run
) -> Implementation:
    """The implementation "triton" of an operator.

    Args:
        fused: what `forward` and `backward` are added to.
        kernels: imports and returns the module with `forward`, `backward` and `unsupported`.
        run: turns the function that runs the fused operator into one that takes the operator's normalised call.
    """

    def unsupported(*call: Any) -> str | None:
        device = call[0].device.type
        if device != "cuda" and not (device == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"):
            return f"Triton needs a CUDA device, the tensors are on {device!r}"
        return kernels().unsupported(*call)

    added = fused.add("triton", lambda *args: kernels().forward(*args), lambda *args: kernels().backward(*args))
    return Implementation("triton", "Triton kernels, one pass", run(added), unsupported)
