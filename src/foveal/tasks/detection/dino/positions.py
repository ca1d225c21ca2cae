"""Places as vectors: sines and cosines of coordinates."""

import math

import torch
from torch import Tensor

MAP_TEMPERATURE = 20
BOX_TEMPERATURE = 10000


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


def embed_boxes(boxes: Tensor, dim: int) -> Tensor:
    """(..., 2 dim) of boxes (..., 4) as (cx, cy, w, h) relative to the image; in the order y, x, w, h (DAB-DETR).

    DINO section 3.2 follows DAB-DETR, whose implementation put y first; released weights have learned that order.
    """
    return sine_embedding(boxes[..., [1, 0, 2, 3]], dim // 2, BOX_TEMPERATURE).flatten(-2)


def embed_map(rows: Tensor, columns: Tensor, dim: int) -> Tensor:
    """(B, H, W, dim) for every place of a map, y's half first.

    transformers has this embedding with places at pixel centres; DINO's are at their far edges, and of temperature 20.

    Args:
        rows, columns: (B, H) and (B, W), where each row and column ends, relative to the image: 1 is its last.
    """
    y = sine_embedding(rows, dim // 2, MAP_TEMPERATURE)
    x = sine_embedding(columns, dim // 2, MAP_TEMPERATURE)
    height, width = rows.shape[1], columns.shape[1]
    return torch.cat((y[:, :, None].expand(-1, -1, width, -1), x[:, None].expand(-1, height, -1, -1)), dim=-1)
