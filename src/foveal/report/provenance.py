"""What a page was made with: versions, time, machine, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import foveal

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


def source_commit() -> str | None:
    """The commit that this package is checked out at, `-dirty` where files differ; None if it is no checkout."""
    package = Path(foveal.__file__).parent
    root = package.parents[1]
    if not (root / ".git").exists():
        return None
    try:
        git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
        answer = subprocess.run(git, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:  # a machine without git
        return None
    return answer.stdout.strip() or None
