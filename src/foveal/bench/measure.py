"""Measuring calls: interleaved timing, since on a shared machine only ratios within a round are meaningful, and memory.

Peak memory is what a call holds at its highest point, beyond the network and its inputs. On a GPU PyTorch's allocator
counts it. On the CPU the operating system counts it for a process: every subject runs in a separate process, one after
another, which is not timed and whose allocator returns freed memory at once. The figure is therefore what tensors need,
not what an allocator keeps. It is measured on Linux only; other systems cannot reset the count.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import multiprocessing
import re
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

import torch
import torch._inductor.config as inductor

from foveal.bench.settings import Setting
from foveal.bench.subjects import Prepared, Subject
from foveal.ops.host import return_blocks_from

Call = Callable[[], object]
#: Returns the seconds per call, averaged over a number of consecutive calls.
Stopwatch = Callable[[Call, int], float]
Key = TypeVar("Key")
WARMUP = 2  # rounds that are not counted
MOST_REPEATS = 1000
_LARGE = 128 << 10  # bytes; larger blocks are returned at once, because glibc may or may not keep them
_PRELOADED = ["foveal.bench.measure"]  # the fork server imports PyTorch once for all child processes


@dataclass(frozen=True)
class Spread:
    """20th, 50th and 80th percentile, in the unit of the values."""

    p20: float
    p50: float
    p80: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Compute percentiles of at least two values, interpolated between neighbours."""
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
    """Time every call once per round, so that all calls meet the same state of the machine.

    Each round starts with the next call, so that none is always the first after a pause.

    Args:
        calls: what to time, by any key.
        rounds: counted rounds, at least 2.
        stopwatch: measures the time, see ``stopwatch_for``.
        warmup: rounds before them that are not counted.
        least: minimum seconds per measurement: shorter calls are repeated. The last warm-up round decides how often.
        on_call: called after each measurement, ``(warmup + rounds) * len(calls)`` times.

    Returns:
        Seconds per call by key, one value for each counted round.
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
    """Return the speedup over the baseline, round by round."""
    return [b / s for b, s in zip(baseline, seconds, strict=True)]


def stopwatch_for(device: str) -> Stopwatch:
    """Return a stopwatch that uses CUDA events on a CUDA device, and the wall clock elsewhere."""
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


def peak_on_gpu(prepared: Prepared, device: str) -> int:
    """Return the peak device memory of a subject beyond what is allocated now, in bytes.

    Must be called before the subject's first call; it makes two calls.
    """
    before = torch.cuda.memory_allocated(device)
    prepared.call()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    prepared.call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def peak_on_cpu(subject: Subject, setting: Setting) -> int | None:
    """Return the bytes by which a child process grows in a call.

    Returns None if this is unknown: not on Linux, or the child was killed, most likely because memory ran out.
    """
    if sys.platform != "linux":
        return None
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    _start_server()
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_report, args=(sender, subject, setting), daemon=True)
    try:
        child.start()
        sender.close()
        return receiver.recv()
    except EOFError:
        return None
    finally:
        if child.pid is not None:
            child.kill()
            child.join()


def _start_server() -> None:
    """Start the fork server with Ctrl-C blocked, also for its children: this process stops them."""
    resource_tracker.ensure_running()  # otherwise the fork server starts it, which would lift the block below
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _report(sender: Connection, subject: Subject, setting: Setting) -> None:
    """Measure in the child process and send the result."""
    return_blocks_from(_LARGE)
    torch.set_num_threads(setting.threads)
    inductor.compile_threads = 1  # no worker processes, which would outlive the child
    grown = _memory_growth(subject, setting)
    with contextlib.suppress(BrokenPipeError):  # the parent no longer waits
        sender.send(grown)


def _memory_growth(subject: Subject, setting: Setting) -> int:
    """Return the bytes at the highest point of a later call, beyond what is resident before the first.

    What a network keeps after its first call is counted. What PyTorch keeps after a first call with these shapes is
    not, so another instance makes that call. A compiled network is counted from after its first call, since the
    compiler stays resident.
    """
    prepared = subject.prepare(setting)
    prepared.call()
    if subject.form != "compiled":
        del prepared
        prepared = subject.prepare(setting)
    before = _settle()
    prepared.call()
    _settle()
    prepared.call()
    return _resident("VmHWM") - before


def _settle() -> int:
    """Return freed memory to the system and reset the high-water mark; returns the bytes resident now."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _resident("VmRSS")


def _resident(field: str) -> int:
    """Return bytes from the process status: ``VmRSS`` now, ``VmHWM`` the maximum since the last reset."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None, field
    return int(found[1]) * 1024
