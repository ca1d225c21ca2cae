"""Checkpoints: written whole or not at all, read without executing anything.

``last.pt`` holds everything that resuming needs::

    model, ema            weights (ema is None without a moving average)
    optimizer, scaler     their states
    step, epoch           updates and epochs done; with the seed they replace a random state and the sampler's position
                          (see sampling.py)
    meter                 sums over the current epoch
    best                  the best metric so far and its epoch
    config, card          settings of the run; metadata of the task: model, classes and preprocessing
    batching, train_size  the split of an update; images per epoch
    format, version       versions of this layout and of foveal; torch: of PyTorch

``best.pt`` holds the best weights (of the moving average if there is one) under ``model``, with the same metadata and
without states: the file for evaluation, prediction and distribution.
"""

from pathlib import Path
from typing import Any

import torch

from foveal.errors import FovealError
from foveal.files import atomic_file
from foveal.models.load_report import CheckpointError
from foveal.models.weights_file import read_content

FORMAT = 1


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write ``state`` so that ``path`` is, at every instant, the old file or the whole new one on the disk.

    Raises:
        FovealError: The disk is full or not writable. The old file is untouched.
    """
    advice = "make room or choose another --out; what was saved before is untouched"
    with atomic_file(path, advice, durable=True) as part, part.open("wb") as file:
        torch.save(state, file)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a ``last.pt`` or ``best.pt`` of foveal to the CPU.

    Raises:
        FovealError: The file is missing, broken, or not one that foveal wrote.
    """
    try:
        state = read_content(path)
    except CheckpointError as error:
        raise FovealError(
            f"{path} {error.finding}: start a new run with another --out, or start from best.pt with --checkpoint."
        ) from error
    if "card" not in state:
        raise FovealError(f"{path} was not written by foveal train: pass it as --checkpoint to start from its weights.")
    return state
