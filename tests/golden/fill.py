"""Reproducible weights and images: the seed of each tensor is the CRC-32 of its released name."""

import json
import math
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent

# Tensors are drawn as mean + spread * z, with z standard normal.
_BY_LAST_NAME = {
    "running_mean": (0.0, 0.1),
    "temperature": (math.log(math.exp(1 / 0.24) - 1), 0.1),
    "query_embedding": (0.0, 0.1),
    "learnable_tokens": (0.0, 0.1),
    "learnable_bias": (0.0, 0.1),
    "relative_pos_bias_local": (0.0, 0.5),
}


def _mean_and_spread(name: str, shape: list[int]) -> tuple[float, float]:
    last = name.rpartition(".")[2]
    if last in _BY_LAST_NAME:
        return _BY_LAST_NAME[last]
    if name.startswith("relative_pos_enc"):
        return 0.0, 0.5
    if last == "weight" and "layer_scale" in name:
        return 0.3, 0.05
    if last == "bias":
        return 0.0, 0.1 if len(shape) < 2 else 0.05
    if len(shape) == 1:
        return 1.0, 0.1
    return 0.0, 1 / math.sqrt(math.prod(shape[1:]))


def filled_tensor(name: str, shape: list[int]) -> Tensor:
    """The tensor with a given released name."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    z = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF).standard_normal(shape)
    if name.endswith("running_var"):
        return torch.from_numpy(1 + 0.2 * np.abs(z)).float()
    mean, spread = _mean_and_spread(name, shape)
    return torch.from_numpy(mean + spread * z).float()


@cache
def released_names(variant: str) -> dict[str, list[int]]:
    """Names and shapes of a released checkpoint: "transnext_micro", "transxnet_t", ..."""
    return json.loads((FOLDER / f"{variant}.keys.json").read_text())


def filled_state(variant: str) -> dict[str, Tensor]:
    """State dict of a released checkpoint, with reproducible values."""
    return {name: filled_tensor(name, shape) for name, shape in released_names(variant).items()}


def filled_image(*shape: int) -> Tensor:
    """The input images of the stored outputs."""
    return torch.from_numpy(np.random.RandomState(0).standard_normal(shape)).float()


def stored(name: str) -> Tensor:
    """Output of the authors' code."""
    return torch.from_numpy(np.load(FOLDER / f"{name}.npy"))
