"""Memory that the process keeps instead of giving it back to the system after every operator."""

from __future__ import annotations

import ctypes
import sys

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 1 << 30  # bytes: glibc takes an int


def keep_memory() -> bool:
    """Let this process keep the memory of large temporaries on the CPU for their next use; True if that could be set.

    By default glibc asks the system for every block of more than a few megabytes and gives it back at once, and the
    system clears it page by page: a feature map costs several times what computing it does. Once set, freed memory
    stays with the process. Applies to all of the process and cannot be undone; other C libraries are left alone.
    """
    return give_back_from(_LARGEST)


def give_back_from(size: int) -> bool:
    """Ask the system for every block of `size` bytes or more apart, and give it back when it is freed; smaller ones
    stay with the process. True if that could be set."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, size) and mallopt(_M_TRIM_THRESHOLD, size))
