"""Checkpoints: written whole or not at all, read without executing anything.

``last.pt`` holds what a continuation needs::

    model, ema            weights (ema None where none is kept)
    optimizer, scaler     their states
    step, epoch           updates and epochs done; with the seed they are the random state and the sampler's position
                          (see seeding.py)
    meter                 sums over the passes of the epoch that is under way
    best                  the best metric so far and its epoch
    config, card          the run's settings; what the task says about model, classes and preprocessing
    batching, train_size  how an update's images are cut up; the images of an epoch
    format, version       of this layout, of foveal; torch: of PyTorch

``best.pt`` holds the weights that scored best (the averaged ones where an EMA is kept) under ``model``, with the same
cards and without optimiser: the file to evaluate, to predict with and to give away.
"""

from pathlib import Path
from typing import Any

import torch

from foveal.errors import FovealError
from foveal.files import atomic_file
from foveal.models.load_report import CheckpointError
from foveal.models.weights_file import WeightsFile, WeightsSource, read_content

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
    """A ``last.pt`` or ``best.pt`` of ours, on the CPU.

    Raises:
        FovealError: the file is missing, broken, or not one that foveal wrote.
    """
    try:
        state = read_content(path)
    except CheckpointError as error:
        raise FovealError(
            f"{path}: {error.finding}: start a new run with another --out, or start from best.pt with --checkpoint."
        ) from error
    if "card" not in state:
        raise FovealError(f"{path} was not written by foveal train: pass it as --checkpoint to start from its weights.")
    return state


def read_card(path: WeightsSource) -> dict[str, Any] | None:
    """Return the metadata of a checkpoint; None for weights that come from elsewhere.

    Raises:
        CheckpointError: the file is missing or broken.
    """
    return WeightsFile.open(path).metadata
