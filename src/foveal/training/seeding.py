"""Randomness as a function of a counter.

Every random number of a run follows from (seed, where we are): an image's augmentation from its place in the epoch, a
step's dropout and mixing from the step's number. So a result does not depend on how many workers loaded the images,
whether an evaluation ran in between, or whether the run was stopped and continued; a checkpoint has no hidden random
state to lose.
"""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def mix(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part, the same on every machine and in every process."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators, on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def seeded_on_cpu(seed: int) -> Iterator[None]:
    """Inside, the CPU's generators start from ``seed``; afterwards they go on as if nothing had happened."""
    python, numpy, pytorch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(pytorch)
