"""Whose time a call takes, the host's or the GPU's: kernels as torch.profiler counts them, and when the call returns.

A GPU computes while Python prepares the next kernels. If the kernels of a call together take much less time than the
call, and the call returns only shortly before they end, then the host decides its time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

Call = Callable[[], object]
_COPIES = ("Memcpy", "Memset")  # what CUDA copies and fills without a kernel


@dataclass(frozen=True)
class Kernel:
    """All launches of one kernel in a call: their number and the seconds they take together."""

    name: str
    launches: float
    seconds: float


@dataclass(frozen=True)
class KernelTime:
    """The kernels of a call, and the operators that took the host's time, both slowest first."""

    kernels: tuple[Kernel, ...]
    host: tuple[Kernel, ...]

    @property
    def seconds(self) -> float:
        """What the device computes and copies in a call."""
        return sum(kernel.seconds for kernel in self.kernels)

    @property
    def launches(self) -> float:
        """Kernels launched in a call, without copies."""
        return sum(kernel.launches for kernel in self.kernels if not kernel.name.startswith(_COPIES))


def kernel_time(call: Call, device: str, calls: int = 2) -> KernelTime:
    """Profile some calls and return the kernels of one. Call it before with the same shapes: nothing is warmed up.

    On a CPU the operators take the place of kernels, each with the time that it takes itself.
    """
    on_gpu = torch.device(device).type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as profiled:
        for _ in range(calls):
            call()
        _wait(device)
    rows = [row for row in profiled.key_averages() if not getattr(row, "is_user_annotation", False)]
    host = _slowest_first(rows, DeviceType.CPU, "self_cpu_time_total", calls)
    kernels = _slowest_first(rows, DeviceType.CUDA, "self_device_time_total", calls) if on_gpu else host
    return KernelTime(kernels, host)


def host_seconds(call: Call, device: str, rounds: int) -> list[float]:
    """Return the seconds until the call returns, for each round, which begins when the device has nothing to do."""
    seconds = []
    for _ in range(rounds):
        _wait(device)
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    _wait(device)
    return seconds


def _slowest_first(rows: list[Any], device: DeviceType, time_field: str, calls: int) -> tuple[Kernel, ...]:
    microseconds = [(row.key, row.count, getattr(row, time_field)) for row in rows if row.device_type == device]
    kernels = [Kernel(name, count / calls, taken / calls / 1e6) for name, count, taken in microseconds if taken > 0]
    return tuple(sorted(kernels, key=lambda kernel: -kernel.seconds))


def _wait(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
