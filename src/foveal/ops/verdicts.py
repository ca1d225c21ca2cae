"""No kernel is trusted unseen: what the first use of a Triton kernel showed is asked here before every call, and kept.

A verdict is known to the process, so that a call costs a look-up, and to the user: a small file in the cache folder, by
device, versions and sources. So a kernel is examined once on a kind of device, by whichever process comes first.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import torch

from foveal.errors import FovealError
from foveal.files import cache_folder, staging_folder
from foveal.version import __version__

from .backend import forced_backend
from .deviation import Deviation
from .first_use import Dtypes, Numbers, examine, subject

#: "0": kernels are used unseen. "1": those in Triton's interpreter are examined as well. Read at a kernel's first use.
CHECK = "FOVEAL_CHECK_KERNELS"
_DRIVER = Path("/proc/driver/nvidia/version")  # on Linux; elsewhere a new driver changes no key
_CAPTURING = (
    "its kernels were not compared with torch on this device yet, and cannot be while a CUDA graph is captured: call "
    "the operator once before"
)
_UNSEEN = "unseen"

Key = tuple[str, Dtypes, Numbers, torch.device]
_known: dict[Key, str | None] = {}  # the reason against the kernels, or None
_warned: set[Key] = set()
_lock = threading.Lock()


@torch.compiler.assume_constant_result  # torch.compile asks while it traces, and nothing of the answer is traced
def distrust(operator: str, dtypes: Dtypes, numbers: Numbers, device: torch.device) -> str | None:
    """Return why the Triton kernels of a fused operator are not trusted on a device, or None.

    Args:
        dtypes: of the operator's tensors.
        numbers: that the kernels are compiled for.

    The first use of kernels examines them, unless a file has the verdict. The first reason is also a warning, unless
    ``use_backend`` makes it an error.
    """
    key = operator, dtypes, numbers, device
    if key not in _known:
        with _lock:
            reason = _known[key] if key in _known else _verdict(key)
            if reason == _CAPTURING:
                return reason
            _known[key] = reason
    reason = _known[key]
    if reason is not None and forced_backend() is None and key not in _warned:
        _warned.add(key)
        _warn(key, reason)
    return reason


def _warn(key: Key, reason: str) -> None:
    operator, (dtype, *_), _, device = key
    warnings.warn(
        f"foveal.ops.{operator} does not use its Triton kernels for {_name(dtype)} on {_device(device)[0]}: {reason}. "
        "Please report it in foveal's issue tracker, with the file that `python benchmarks/gpu_pass.py` writes in a "
        f"clone of foveal; {CHECK}=0 in the environment uses the kernels nevertheless.",
        RuntimeWarning,
        stacklevel=2,
    )


def _verdict(key: Key) -> str | None:
    """The reason against kernels that this process has not used yet, from their file or an examination."""
    device, wanted = key[-1], os.environ.get(CHECK)
    if wanted == "0" or (device.type == "cpu" and wanted != "1"):  # the interpreter serves to debug kernels
        return None
    facts = _facts(key)
    reason = _read(facts)
    if reason != _UNSEEN:
        return reason
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return _CAPTURING
    reason, holds = _examine(key)
    if holds:
        _write(facts, reason)
    return reason


def _examine(key: Key) -> tuple[str | None, bool]:
    """The reason against kernels, and whether it holds for other processes too."""
    from .triton import is_of_the_kernel

    found = examine(*key)
    if isinstance(found, Deviation):
        return None if found.error <= found.allowed else f"on a small input it {found}", True
    message = " ".join(str(found).split())
    message = message if len(message) < 400 else f"{message[:200]} ... {message[-200:]}"
    return f"on a small input it raises {type(found).__name__}: {message}", is_of_the_kernel(found)


def _facts(key: Key) -> dict[str, Any]:
    """Everything that a verdict depends on, in types of JSON."""
    from .triton import triton

    operator, dtypes, numbers, device = key
    _, kernels = subject(operator)
    name, capability = _device(device)
    return dict(
        operator=operator,
        dtypes=[_name(dtype) for dtype in dtypes],
        numbers=list(numbers),
        device=name,
        capability=capability,
        sources=_digest(Path(kernels.__file__)),
        foveal=__version__,
        torch=torch.__version__,
        triton="none" if triton is None else triton.__version__,
        cuda=str(torch.version.cuda or torch.version.hip),
        driver=_driver(),
    )


def _device(device: torch.device) -> tuple[str, str]:
    if device.type == "cpu":
        return "Triton's interpreter", ""
    return torch.cuda.get_device_name(device), "{}.{}".format(*torch.cuda.get_device_capability(device))


@cache
def _driver() -> str:
    try:
        return _DRIVER.read_text(encoding="utf-8").partition("\n")[0]
    except OSError:
        return ""


@cache
def _digest(kernels: Path) -> str:
    """A digest of the kernels' file and of this whole package: what kernels share, and what they are compared with."""
    digest = hashlib.sha256()
    for file in (kernels, *sorted(Path(__file__).parent.rglob("*.py"))):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _file(facts: dict[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return cache_folder() / "kernels" / f"{facts['operator']}-{digest[:16]}.json"


def _read(facts: dict[str, Any]) -> str | None:
    """The reason in the file of a verdict, which may be None, or _UNSEEN without a whole file for these facts."""
    try:
        verdict = json.loads(_file(facts).read_text(encoding="utf-8"))
    except (OSError, RuntimeError, ValueError):  # RuntimeError: the user has no home
        return _UNSEEN
    reason = verdict.get("reason", _UNSEEN) if isinstance(verdict, dict) else _UNSEEN
    return reason if verdict == {**facts, "reason": reason} and isinstance(reason, str | None) else _UNSEEN


def _write(facts: dict[str, Any], reason: str | None) -> None:
    """Keep a verdict. Where nothing can be written, the next process examines the kernels again."""
    try:
        file = _file(facts)
        with staging_folder(file.parent) as part:
            (part / file.name).write_text(json.dumps({**facts, "reason": reason}, indent=1) + "\n", encoding="utf-8")
    except (OSError, RuntimeError, FovealError):
        pass
