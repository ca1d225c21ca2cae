"""What a page was made with: versions, time, machine, commit."""

from __future__ import annotations

import os
import platform
from datetime import datetime
from importlib.metadata import version

import foveal
from foveal.bench.machine import source_commit

PACKAGES = {"PyTorch": "torch", "timm": "timm", "NumPy": "numpy"}


def provenance() -> dict[str, str]:
    """Name -> value, ready to be shown. The commit is left out where foveal does not run from its repository."""
    commit = source_commit()
    return {
        "foveal": foveal.__version__ if commit is None else f"{foveal.__version__}, commit {commit}",
        **{name: version(package) for name, package in PACKAGES.items()},
        "Python": platform.python_version(),
        "Made": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "Machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
    }
