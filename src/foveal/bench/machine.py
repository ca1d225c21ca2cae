"""Facts about the machine and the software that a row was measured with: device, versions, commit, allocator."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import torch

import foveal
from foveal import ops


def machine_facts(device: str, keeps_memory: bool) -> dict[str, str]:
    """Return the facts of every row, name -> value: date, commit, device, threads, allocator, versions."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": source_commit() or "unknown",
        "device": device_name(device),
        "threads": str(torch.get_num_threads()),
        "keep_memory": "on" if keeps_memory else "off",
        "torch": torch.__version__,
        "timm": _version("timm"),
        "foveal": foveal.__version__,
        "triton": _version("triton"),
    }


def device_name(device: str) -> str:
    """Return the product name of the device; for a CPU with its vector instructions, because a cloud's product name may
    hide its generation, and the number of processors that this process may use.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    if torch.device(device).type != "cpu":
        return f"{platform.processor() or platform.machine()} {device}"
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_processor()} ({torch.backends.cpu.get_cpu_capability()}), {usable} processor{'s' * (usable != 1)}"


def slug(name: str) -> str:
    """Return a device's name as a file name: "NVIDIA H200" becomes nvidia-h200."""
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\(r\)|\(tm\)", "", name.lower())).strip("-")


def keep_memory() -> bool:
    """Let the C allocator keep freed memory, for all subjects alike; return whether this machine can."""
    return ops.keep_memory()


def source_commit() -> str | None:
    """Return the commit that this package is checked out at, or None if it is not in a checkout.

    The suffix ``-dirty`` marks changes in files other than results.
    """
    package = Path(foveal.__file__).parent
    root = package.parents[1]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "describe", "--always", "--abbrev=12").stdout.strip()
        clean = _git(root, "diff", "--quiet", "HEAD", "--", ".", ":(exclude)benchmarks/results").returncode == 0
    except FileNotFoundError:  # a machine without git
        return None
    return f"{commit}{'' if clean else '-dirty'}" if commit else None


def _git(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=20, check=False)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"
