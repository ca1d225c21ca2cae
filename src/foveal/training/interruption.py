"""A notice to leave: what a scheduler sends before it takes the machine away, and Ctrl-C."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from foveal.training.processes import Processes

#: SIGTERM is what kill, systemd, Kubernetes and Slurm send; SIGUSR1 what ``sbatch --signal=USR1@120`` is often told to.
#: Ctrl-C is one of them because Python forgets a KeyboardInterrupt that comes while a process forks, as loaders do.
NOTICES = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name))


class Interruption:
    """Inside the ``with`` block a notice is noted instead of ending the process; a second one ends it.

    Signals reach the main thread alone; in another thread the block changes nothing.

    Attributes:
        requested: a notice has come; ``pressed``: it was Ctrl-C.
    """

    def __init__(self) -> None:
        self.requested = self.pressed = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._before = {notice: signal.signal(notice, self._note) for notice in NOTICES}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()

    def agreed(self, processes: Processes) -> bool:
        """Whether any process has been told to leave: all of them ask at the same step and get the same answer."""
        return processes.any(self.requested)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested, self.pressed = True, number == signal.SIGINT
        self._restore()

    def _restore(self) -> None:
        for notice, handler in self._before.items():
            signal.signal(notice, handler)
        self._before = {}
