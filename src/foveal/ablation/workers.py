"""Several processes for the runs of a table, each with its share of the threads and, if there are any, of the GPUs."""

import contextlib
import multiprocessing
import os
import queue
import signal
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from foveal.ablation.plan import TableRun
from foveal.ablation.runner import Event, Report, Stopped, stopped_by_sigterm, work
from foveal.errors import FovealError

SECONDS_BETWEEN_LOOKS = 0.5  # at processes that may have died


def work_in_processes(plan: TableRun, jobs: int, report: Report) -> None:
    """Do what ``work`` does in ``jobs`` processes at a time; events arrive in this one.

    Raises the same as ``work``, after the other processes have been terminated and have saved their runs.
    """
    start = multiprocessing.get_context("spawn")  # a fork of a process with threads, as PyTorch's, may hang
    events: Any = start.Queue()
    threads = max(1, torch.get_num_threads() // jobs)
    workers = [start.Process(target=_worker, args=(plan, number, threads, events)) for number in range(jobs)]
    try:
        for worker in workers:
            worker.start()
        _listen(workers, events, report)
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
        for worker in workers:
            if worker.pid is not None:
                _drain(worker, events)
    if any(worker.exitcode for worker in workers):
        raise FovealError("A process of the table ended early: what it said is above, and what it saved is kept.")


def _listen(workers: Sequence[BaseProcess], events: Any, report: Report) -> None:
    """Pass events on until every process has ended; raise FovealError if one could not train."""
    while True:
        alive = any(worker.is_alive() for worker in workers)
        try:
            event = events.get(timeout=SECONDS_BETWEEN_LOOKS)
        except queue.Empty:
            if not alive:
                return
            continue
        if isinstance(event, str):
            raise FovealError(event)
        report(event)


def _drain(worker: BaseProcess, events: Any) -> None:
    """Wait for the end of a process, which does not come before its events are read."""
    while worker.is_alive():
        with contextlib.suppress(queue.Empty):
            events.get(timeout=SECONDS_BETWEEN_LOOKS)
    worker.join()


def _worker(plan: TableRun, number: int, threads: int, events: Any) -> None:
    """Train runs in a separate process. Ctrl-C reaches only the parent, which then sends SIGTERM once."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
    parent = multiprocessing.parent_process()

    def report(event: Event) -> None:
        events.put(event)
        if parent is not None and not parent.is_alive():
            os.kill(os.getpid(), signal.SIGTERM)  # nothing else would end this process

    try:
        with stopped_by_sigterm():
            work(plan, report)
    except (Stopped, KeyboardInterrupt):
        return
    except FovealError as error:
        events.put(str(error))
