"""Interleaved timing: on a shared machine only ratios within one round mean anything."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

Call = Callable[[], object]
#: Seconds a call takes, on average over so many calls made one after the other.
Stopwatch = Callable[[Call, int], float]
Key = TypeVar("Key")
WARMUP = 2  # rounds that are not counted
MOST_REPEATS = 1000


@dataclass(frozen=True)
class Spread:
    """20th, 50th and 80th percentile, in the unit of the values."""

    p20: float
    p50: float
    p80: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least two values, interpolated between neighbours."""
        quintiles = statistics.quantiles(values, n=5, method="inclusive")
        return cls(quintiles[0], statistics.median(values), quintiles[3])


def interleave(
    calls: dict[Key, Call],
    rounds: int,
    stopwatch: Stopwatch,
    warmup: int = WARMUP,
    least: float = 0.0,
    on_call: Callable[[], None] = lambda: None,
) -> dict[Key, list[float]]:
    """Time every call once a round, so that all of them meet the same machine.

    Each round begins with the next one, so that none is always the first after a pause.

    Args:
        calls: what to time, by any key.
        rounds: counted rounds, at least 2.
        stopwatch: takes the time, see `stopwatch_for`.
        warmup: rounds before them that are not counted.
        least: seconds that one measurement should last: shorter calls are repeated. The last round of warming up
            decides how often.
        on_call: told after each measurement, `(warmup + rounds) * len(calls)` times.

    Returns:
        Seconds a call by key, one for each counted round.
    """
    keys = list(calls)
    repeats = dict.fromkeys(keys, 1)
    seconds: dict[Key, list[float]] = {key: [] for key in keys}
    for done in range(warmup + rounds):
        first = done % max(len(keys), 1)
        for key in keys[first:] + keys[:first]:
            taken = stopwatch(calls[key], repeats[key])
            if done >= warmup:
                seconds[key].append(taken)
            else:
                repeats[key] = min(MOST_REPEATS, max(1, math.ceil(least / max(taken, 1e-9))))
            on_call()
    return seconds


def ratios(baseline: Sequence[float], seconds: Sequence[float]) -> list[float]:
    """How many times faster than the baseline, round by round."""
    return [b / s for b, s in zip(baseline, seconds, strict=True)]


def stopwatch_for(device: str) -> Stopwatch:
    """CUDA's own events on a CUDA device, which is waited for; elsewhere the wall clock."""
    return _by_events if torch.device(device).type == "cuda" else _by_wall_clock


def _by_wall_clock(call: Call, repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def _by_events(call: Call, repeats: int) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    for _ in range(repeats):
        call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3 / repeats
