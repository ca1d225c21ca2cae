"""Boxes as vectors: sines and cosines of their coordinates."""

from torch import Tensor

from foveal.tasks.dense.detr import sine_embedding

BOX_TEMPERATURE = 10000


def embed_boxes(boxes: Tensor, dim: int) -> Tensor:
    """(..., 2 dim) of boxes (..., 4) as (cx, cy, w, h) relative to the image; in the order y, x, w, h (DAB-DETR).

    DINO section 3.2 follows DAB-DETR, whose implementation put y first; released weights have learned that order.
    """
    return sine_embedding(boxes[..., [1, 0, 2, 3]], dim // 2, BOX_TEMPERATURE).flatten(-2)
