"""Memory that the process keeps instead of returning it to the system after every operator."""

from __future__ import annotations

import ctypes
import sys

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 1 << 30  # bytes: glibc takes an int


def keep_memory() -> bool:
    """Keep the memory of large temporaries on the CPU with this process for reuse; return whether that could be set.

    By default glibc asks the system for every block of more than a few megabytes and returns it at once, and the
    system clears it page by page: a feature map costs several times more than its computation. Once set, freed memory
    stays with the process. Applies to the whole process and cannot be undone; other C libraries are left alone.
    """
    return return_blocks_from(_LARGEST)


def return_blocks_from(size: int) -> bool:
    """Allocate blocks of ``size`` bytes or more separately and return them to the system when they are freed; smaller
    ones stay with the process. Return whether that could be set."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, size) and mallopt(_M_TRIM_THRESHOLD, size))
