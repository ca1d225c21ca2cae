"""The processes of a run and the device of this one: the one place that makes an Accelerator.

accelerate joins the processes, places and wraps the model and does the sums. Mixed precision stays PyTorch's own few
lines in the loop: accelerate fixes it once for the life of a process and patches the model's forward for it.
"""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.training.batching import Share
from foveal.training.config import Precision

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Processes:
    """Who computes: how many processes, which share and device is ours, and sums over all of them."""

    def __init__(self, accelerator: "Accelerator") -> None:
        self.accelerator = accelerator
        self.device: torch.device = accelerator.device
        self.share = Share(accelerator.process_index, accelerator.num_processes)
        self.is_main: bool = accelerator.is_main_process

    def distribute(self, model: nn.Module) -> nn.Module:
        """The model on our device, wrapped where several processes must agree on gradients."""
        return self.accelerator.prepare_model(model)

    def sum(self, values: dict[str, float]) -> dict[str, float]:
        """Each value summed over all processes, in double precision where the device has it."""
        total = self.sum_rows(torch.tensor(list(values.values()), dtype=torch.float64))
        return dict(zip(values, total.tolist(), strict=True))

    def sum_rows(self, values: Tensor) -> Tensor:
        """A float64 tensor on the CPU, summed over all processes, in double precision where the device has it."""
        if self.share.count == 1:
            return values
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        return self.accelerator.reduce(values.to(self.device, dtype), "sum").cpu().double()

    def gather_rows(self, rows: Tensor, padding: int) -> Tensor:
        """The rows of all processes one after the other, on the CPU; each process's are filled up with ``padding`` to
        the number of the one that has most."""
        padded = self.accelerator.pad_across_processes(rows.to(self.device), dim=0, pad_index=padding)
        return self.accelerator.gather(padded).cpu()

    def gather_objects(self, items: Sequence[T]) -> list[T]:
        """The items of all processes, those of the first process first. They are pickled: plain types and arrays."""
        if self.share.count == 1:
            return list(items)
        from accelerate.utils import gather_object

        return gather_object(list(items))

    def from_main(self, item: T) -> T:
        """What the main process holds, on every process; the others' own is dropped."""
        if self.share.count == 1:
            return item
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([item])[0]

    def any(self, answer: bool) -> bool:
        """Whether one process at least says yes."""
        return self.sum_rows(torch.tensor(float(answer), dtype=torch.float64)).item() > 0

    def peak_memory(self) -> int:
        """The most bytes that this process has held: of tensors on a CUDA device, of everything on the CPU."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return resident_peak()

    def autocast(self, precision: Precision) -> torch.autocast:
        """Mixed precision for what runs inside; does nothing for fp32."""
        return torch.autocast(self.device.type, DTYPES[precision], enabled=precision != "fp32")

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()


def start_processes() -> Processes:
    """Join the processes that ``torchrun`` or ``accelerate launch`` started, or stand alone, on the best device there
    is.

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
    """Say goodbye to the other processes, where there were any, at the end of a program."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def resident_peak() -> int:
    """The most bytes of memory that this process has held, 0 where the system does not say."""
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def check_precision(precision: Precision, device: torch.device) -> None:
    """Refuse a precision that the device would silently not compute in."""
    if precision == "fp16" and device.type == "cpu":
        raise FovealError("fp16 training needs a GPU: pass --precision bf16 or --precision fp32 on this machine.")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise FovealError("This GPU does not compute in bf16: pass --precision fp16 or --precision fp32.")


def to_device(batch: Any, device: torch.device, channels_last: bool) -> Any:
    """Every tensor of a nest of tuples, lists and dicts moved to ``device``; images (4-d) channels last where asked."""
    if isinstance(batch, torch.Tensor):
        layout = torch.channels_last if channels_last and batch.ndim == 4 else torch.preserve_format
        return batch.to(device, non_blocking=True, memory_format=layout)
    if isinstance(batch, dict):
        return {key: to_device(value, device, channels_last) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device, channels_last) for value in batch)
    return batch
