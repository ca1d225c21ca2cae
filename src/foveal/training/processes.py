"""The processes of a run: their shares and devices, sums over them, and the signals that ask them to stop.

This is the only place that creates an Accelerator. accelerate joins the processes, places and wraps the model and
computes sums. Mixed precision is PyTorch's own: accelerate would fix it for the lifetime of the process and patch the
model's forward.
"""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.training.batching import Share
from foveal.training.config import InferencePrecision

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: kill, systemd, Kubernetes and Slurm send SIGTERM; ``sbatch --signal=USR1@120`` sends SIGUSR1. Ctrl-C is handled the
#: same way because Python drops a KeyboardInterrupt that arrives while a process forks, as loaders do.
NOTICES = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name))


class Processes:
    """The number of processes, the share and device of this one, and sums over all of them."""

    def __init__(self, accelerator: "Accelerator") -> None:
        self.accelerator = accelerator
        self.device: torch.device = accelerator.device
        self.share = Share(accelerator.process_index, accelerator.num_processes)
        self.is_main: bool = accelerator.is_main_process
        self.is_asynchronous: bool = self.device.type != "cpu"
        """Whether operators are queued, so that reading a tensor waits for those before it."""

    def distribute(self, model: nn.Module) -> nn.Module:
        """Return the model on our device, wrapped if several processes must exchange gradients."""
        return self.accelerator.prepare_model(model)

    def sum(self, values: dict[str, float]) -> dict[str, float]:
        """Return the sum of each value over all processes, in double precision if the device supports it."""
        total = self.sum_rows(torch.tensor(list(values.values()), dtype=torch.float64))
        return dict(zip(values, total.tolist(), strict=True))

    def sum_rows(self, values: Tensor) -> Tensor:
        """Return a float64 CPU tensor summed over all processes, in double precision if the device supports it."""
        if self.share.count == 1:
            return values
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        return self.accelerator.reduce(values.to(self.device, dtype), "sum").cpu().double()

    def gather_rows(self, rows: Tensor, padding: int) -> Tensor:
        """Return the rows of all processes, concatenated on the CPU and padded with ``padding`` to equal numbers per
        process."""
        padded = self.accelerator.pad_across_processes(rows.to(self.device), dim=0, pad_index=padding)
        return self.accelerator.gather(padded).cpu()

    def gather_objects(self, items: Sequence[T]) -> list[T]:
        """Return the items of all processes in order. They are pickled: plain types and arrays."""
        if self.share.count == 1:
            return list(items)
        from accelerate.utils import gather_object

        return gather_object(list(items))

    def from_main(self, item: T) -> T:
        """Return the item of the main process on every process."""
        if self.share.count == 1:
            return item
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([item])[0]

    def any(self, answer: bool) -> bool:
        """Return whether the answer is true on at least one process."""
        return self.sum_rows(torch.tensor(float(answer), dtype=torch.float64)).item() > 0

    def peak_memory(self) -> int:
        """Return the peak memory of this process in bytes: of tensors on a CUDA device, otherwise resident."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return resident_peak()

    def autocast(self, precision: InferencePrecision) -> torch.autocast:
        """Return a context of mixed precision on the device of this process; see ``autocast``."""
        return autocast(self.device, precision)

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()


def autocast(device: torch.device, precision: InferencePrecision) -> torch.autocast:
    """Return a context of mixed precision; it does nothing for fp32, and there is none for int8."""
    return torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32")


def start_processes() -> Processes:
    """Join the processes started by ``torchrun`` or ``accelerate launch``, or run alone, on the best device available.

    Raises:
        FovealError: accelerate is not installed, or the processes did not join.
    """
    try:
        from accelerate import Accelerator
    except ModuleNotFoundError as error:
        raise FovealError("Training needs accelerate: install it with `pip install 'foveal[train]'`.") from error
    # Without cpu=True accelerate lets the processes of a machine without a GPU train apart, each on everything.
    accelerator = Accelerator(mixed_precision="no", cpu=not torch.accelerator.is_available())
    started = int(os.environ.get("WORLD_SIZE", 1))
    if accelerator.num_processes != started:
        raise FovealError(
            f"{started} processes were started and {accelerator.num_processes} joined: start them with torchrun or "
            "accelerate launch, one for each GPU."
        )
    return Processes(accelerator)


def leave_processes() -> None:
    """Leave the process group, if there is one, at the end of a program."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def resident_peak() -> int:
    """Return the peak resident memory of this process in bytes; 0 if the system does not report it."""
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def check_precision(precision: InferencePrecision, device: torch.device) -> None:
    """Raise FovealError for a precision that the device would silently not use."""
    if precision == "fp16" and device.type == "cpu":
        raise FovealError("fp16 needs a GPU: pass --precision bf16 or --precision fp32 on this machine.")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise FovealError("This GPU does not support bf16: pass --precision fp16 or --precision fp32.")


def to_device(batch: Any, device: torch.device, channels_last: bool) -> Any:
    """Move all tensors of nested tuples, lists and dicts to ``device``; 4-d ones become channels last if asked."""
    if isinstance(batch, torch.Tensor):
        layout = torch.channels_last if channels_last and batch.ndim == 4 else torch.preserve_format
        return batch.to(device, non_blocking=True, memory_format=layout)
    if isinstance(batch, dict):
        return {key: to_device(value, device, channels_last) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device, channels_last) for value in batch)
    return batch


class Interruption:
    """A context in which a signal to stop is noted instead of ending the process; a second one ends it.

    Signals reach the main thread only; in another thread the context does nothing.

    Attributes:
        requested: whether a signal has arrived.
        pressed: whether it was Ctrl-C.
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
        """Return whether any process was asked to stop; all call it at the same step and get the same answer."""
        return processes.any(self.requested)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested, self.pressed = True, number == signal.SIGINT
        self._restore()

    def _restore(self) -> None:
        for notice, handler in self._before.items():
            signal.signal(notice, handler)
        self._before = {}
