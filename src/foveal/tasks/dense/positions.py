"""Places as vectors: sines and cosines of coordinates (DETR, arXiv:2005.12872, section A.4)."""

import math

import torch
from torch import Tensor


def sine_embedding(coordinates: Tensor, size: int, temperature: float) -> Tensor:
    """``size`` numbers for each coordinate c in [0, 1], in pairs: sin and cos of 2 pi c / temperature^(2 i / size).

    Args:
        coordinates: of any shape (...).
        size: even; pair i has the numbers 2 i and 2 i + 1.

    Returns:
        (..., size), in the coordinates' dtype.
    """
    pair = torch.arange(size // 2, dtype=coordinates.dtype, device=coordinates.device)
    angles = coordinates[..., None] * (2 * math.pi / temperature ** (2 * pair / size))
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


def embed_map(rows: Tensor, columns: Tensor, dim: int, temperature: float) -> Tensor:
    """(B, H, W, dim) for every place of a map, y's half first.

    Args:
        rows, columns: (B, H) and (B, W), where each row and column is, relative to the image.
    """
    y = sine_embedding(rows, dim // 2, temperature)
    x = sine_embedding(columns, dim // 2, temperature)
    height, width = rows.shape[1], columns.shape[1]
    return torch.cat((y[:, :, None].expand(-1, -1, width, -1), x[:, None].expand(-1, height, -1, -1)), dim=-1)
