"""Interleaved timing: on a shared machine only ratios within one run mean anything."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timing:
    """Seconds a call: 20th, 50th and 80th percentile over the counted rounds."""

    p20: float
    p50: float
    p80: float


def interleave(calls: dict[str, Callable[[], object]], rounds: int, warmup: int = 2) -> dict[str, Timing]:
    """Time every call once a round, one after the other, so that all of them meet the same machine.

    Args:
        calls: what to time, by name.
        rounds: counted rounds, at least 2.
        warmup: rounds not counted, first.

    Returns:
        A Timing for every name. On CUDA the device is waited for around each call.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for done in range(warmup + rounds):
        for name, call in calls.items():
            _wait()
            start = time.perf_counter()
            call()
            _wait()
            if done >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return {name: _timing(values) for name, values in seconds.items()}


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _timing(values: list[float]) -> Timing:
    quintiles = statistics.quantiles(values, n=5, method="inclusive")
    return Timing(quintiles[0], statistics.median(values), quintiles[3])
