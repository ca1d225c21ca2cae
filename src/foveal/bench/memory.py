"""Peak memory of a call: what it holds at its highest, beyond the network and its inputs.

A GPU's allocator counts it. On the CPU the operating system does, for a process: every subject gets one of its own, one
after the other, which is not timed, and whose allocator gives memory back at once. So it is what tensors need, not what
an allocator keeps. Measured on Linux; elsewhere there is no way to start the count anew.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import re
import signal
import sys
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch._inductor.config as inductor

from foveal.bench.settings import Setting
from foveal.bench.subjects import Prepared, Subject
from foveal.ops.memory import give_back_from

_LARGE = 128 << 10  # bytes of a block that is given back at once: glibc would keep some, by chance the one or other
_PRELOADED = ["foveal.bench.memory"]  # the server of children loads PyTorch once for all of them


def peak_on_gpu(prepared: Prepared, device: str) -> int:
    """Bytes of the device that two calls need beyond what is allocated now: before the first call of the subject."""
    before = torch.cuda.memory_allocated(device)
    prepared.call()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    prepared.call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def peak_on_cpu(subject: Subject, setting: Setting) -> int | None:
    """Bytes by which a child process grows in a call; None where that is not known: no Linux, or the child was ended,
    for want of memory most likely."""
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
    """Start what starts the children, deaf to Ctrl-C as they are then: it is this process that stops them."""
    resource_tracker.ensure_running()  # by itself it would take the block below away
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _report(sender: Connection, subject: Subject, setting: Setting) -> None:
    """Runs in the child."""
    give_back_from(_LARGE)
    torch.set_num_threads(setting.threads)
    inductor.compile_threads = 1  # no processes of the child's own, which would outlive it
    grown = _growth(subject, setting)
    with contextlib.suppress(BrokenPipeError):  # nobody waits any more
        sender.send(grown)


def _growth(subject: Subject, setting: Setting) -> int:
    """Bytes at the highest point of a later call, beyond what is resident before the first.

    What a network keeps after its first call is counted; what PyTorch keeps after a first call of such shapes is not,
    so another network makes that one. A compiled network is counted from after its first call: the compiler stays.
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
    """Give freed memory back and let the high-water mark start from here; bytes resident now."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _resident("VmRSS")


def _resident(field: str) -> int:
    """Bytes, from the process's status: VmRSS now, VmHWM at most since it was last reset."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None, field
    return int(found[1]) * 1024
