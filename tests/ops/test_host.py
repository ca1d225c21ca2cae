"""Freed memory stays with the process."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from foveal.ops import keep_memory
kept = keep_memory() if {keep} else True
assert kept
torch.set_num_threads(1)
torch.zeros(16 << 20).add_(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.empty(16 << 20).fill_(1)  # 64 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> int:
    program = PROGRAM.format(keep=keep)
    return int(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_keep_memory_avoids_page_faults_for_large_temporaries():
    assert faults(keep=True) < faults(keep=False) / 5
