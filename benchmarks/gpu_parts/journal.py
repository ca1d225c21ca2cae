"""The journal of a child process: a line before and after each row, so that no measurement is lost when the process is
stopped, and another process can continue after a row that crashed this one."""

from __future__ import annotations

import gc
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gpu_parts.supervise import DEVICE_IS_LOST

Row = dict[str, Any]


class Journal:
    """The rows of one lane of a part, as lines of a file. Existing rows are not measured again."""

    def __init__(self, path: Path, device: str):
        self.path, self.device = path, device
        lines = map(json.loads, path.read_text(encoding="utf-8").splitlines()) if path.exists() else ()
        self.rows: dict[str, Row] = {line["row"]: line for line in lines if "row" in line}

    def measure(self, name: str, about: Row, measurement: Callable[[], Row]) -> None:
        """Write the row ``name``: what it is about, and the result, or the exception that ended it."""
        if name in self.rows:
            return
        self._write({"start": name, **about})
        try:
            result = measurement()
        except Exception as error:  # a failure of any kind is a result, and the next row is measured
            result = {"failed": sentence(error), "trace": traceback.format_exc()[-4000:]}
        self.rows[name] = {"row": name, **about, **result}
        self._write(self.rows[name])
        self._leave_if_the_device_is_lost()
        release(self.device)

    def passed(self, name: str) -> bool:
        """Return whether a row was measured."""
        return name in self.rows and "failed" not in self.rows[name]

    def _write(self, line: Row) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _leave_if_the_device_is_lost(self) -> None:
        """After some errors of a kernel, such as an illegal address, CUDA refuses all further work in a process."""
        try:
            if on_gpu(self.device):
                torch.cuda.synchronize()
        except RuntimeError:
            sys.exit(DEVICE_IS_LOST)


def sentence(error: BaseException) -> str:
    """Return the type of an exception and the first line of its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:300]


def on_gpu(device: str) -> bool:
    """Return whether this is a CUDA device."""
    return torch.device(device).type == "cuda"


def release(device: str) -> None:
    """Return freed memory to the device, so that a row begins with all of it."""
    gc.collect()
    if on_gpu(device):
        torch.cuda.empty_cache()


def rounded(value: float) -> float:
    """Round to four significant digits."""
    return float(f"{value:.4g}")
