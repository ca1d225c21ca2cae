"""Parts that DETR-like heads (DINO, Mask2Former) share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from foveal.errors import FovealError
from foveal.types import Size

#: Groups of group norms.
GROUPS = 32


@dataclass(frozen=True)
class TransformerSettings:
    """Options that the heads share, by default as published; smaller ones suit small images. There is no dropout.

    Raises:
        FovealError: values that do not fit together.
    """

    title: ClassVar[str]
    """The head's name in error messages."""
    dim: int = 256
    """Width of tokens and queries."""
    heads: int = 8
    """Attention heads."""
    mlp_dim: int = 2048
    """Hidden width of the feed-forward blocks; in Mask2Former, of those of the decoder."""
    encoder_layers: int = 6
    """Depth of the encoder (in Mask2Former, the pixel decoder)."""
    decoder_layers: int = 6
    """Depth of the decoder."""
    queries: int = 100
    """Object queries per image; in Mask2Former, masks: at least the number of classes that occur in one image."""

    def __post_init__(self) -> None:
        for option in fields(self):
            if getattr(self, option.name) < 1:
                raise FovealError(f"{self.title}'s {option.name} must be at least 1, not {getattr(self, option.name)}.")
        # With one channel per group, group norm of a map of a single token would always return zero.
        if self.dim % GROUPS or self.dim <= GROUPS:
            raise FovealError(f"{self.title}'s dim must be 2, 3, ... times {GROUPS}, not {self.dim}.")
        if self.dim % self.heads:
            raise FovealError(f"{self.title}'s {self.heads} heads must divide its dim, {self.dim}.")


def sample_levels(value: Tensor, shapes: Sequence[Size], locations: Tensor, weights: Tensor) -> Tensor:
    """Return weighted sums of bilinearly sampled values, zero beyond the border.

    This is the sampling of deformable attention (Zhu et al., "Deformable DETR", arXiv:2010.04159, equation 3).
    transformers holds the samples of all levels before summing them, gigabytes for one image of 800 x 1333 pixels. One
    level at a time takes a fraction of that, and makes a small training step on a CPU a seventh faster.

    Args:
        value: (B, N, heads, width), the tokens of all levels, level by level and row by row.
        shapes: (height, width) of each level.
        locations: (B, Q, heads, levels, points, 2) as (x, y) in [0, 1].
        weights: (B, Q, heads, levels, points).

    Returns:
        (B, Q, heads * width), in the dtype of the locations.
    """
    batch, _, heads, width = value.shape
    # Levels first, queries last: each level is contiguous, and points are summed over long rows.
    grids = (2 * locations - 1).permute(3, 0, 2, 4, 1, 5).flatten(1, 2).contiguous()
    weights = weights.permute(3, 0, 2, 4, 1).flatten(1, 2).contiguous()
    parts = value.split([h * w for h, w in shapes], dim=1)
    total = value.new_zeros(())
    for shape, part, grid, weight in zip(shapes, parts, grids.unbind(), weights.unbind()):
        plane = part.flatten(2).transpose(1, 2).reshape(batch * heads, width, *shape)
        # The locations decide the dtype: in bfloat16 they would be off by pixels.
        samples = grid_sample(plane.to(grid.dtype), grid, align_corners=False)
        total = total + (samples * weight[:, None]).sum(2)
    return total.view(batch, heads * width, -1).transpose(1, 2)


def init_deformable_attention(attention: nn.Module) -> None:
    """Initialise a deformable attention of transformers as published.

    Head h samples in direction 2 pi h / heads, at points 1, 2, 3, ... pixels away with equal weights.
    """
    layer: Any = attention
    for linear in (layer.sampling_offsets, layer.attention_weights):
        nn.init.zeros_(linear.weight)
    for linear in (layer.attention_weights, layer.value_proj, layer.output_proj):
        nn.init.zeros_(linear.bias)
    heads, levels, points = layer.n_heads, layer.n_levels, layer.n_points
    angles = torch.arange(heads) * (2 * math.pi / heads)
    directions = torch.stack((angles.cos(), angles.sin()), dim=-1)
    directions = directions / directions.abs().amax(-1, keepdim=True)
    steps = torch.arange(1, points + 1)
    offsets = directions[:, None, None] * steps[:, None]
    with torch.no_grad():
        layer.sampling_offsets.bias.copy_(offsets.expand(heads, levels, points, 2).flatten())


def sine_embedding(coordinates: Tensor, size: int, temperature: float) -> Tensor:
    """Embed each coordinate c in [0, 1] as sines and cosines (DETR, arXiv:2005.12872, section A.4).

    Elements 2 i and 2 i + 1 are the sine and cosine of 2 pi c / temperature^(2 i / size).

    Args:
        coordinates: of any shape (...).
        size: width of the embedding, even.
        temperature: as above.

    Returns:
        (..., size), in the coordinates' dtype.
    """
    pair = torch.arange(size // 2, dtype=coordinates.dtype, device=coordinates.device)
    angles = coordinates[..., None] * (2 * math.pi / temperature ** (2 * pair / size))
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


def sine_embedding_2d(rows: Tensor, columns: Tensor, dim: int, temperature: float) -> Tensor:
    """Return the sine embedding (B, H, W, dim) of each position of a map, the half of y first.

    Args:
        rows, columns: (B, H) and (B, W), the relative position of each row and column.
        dim: width of the embedding.
        temperature: see ``sine_embedding``.
    """
    y = sine_embedding(rows, dim // 2, temperature)
    x = sine_embedding(columns, dim // 2, temperature)
    height, width = rows.shape[1], columns.shape[1]
    return torch.cat((y[:, :, None].expand(-1, -1, width, -1), x[:, None].expand(-1, height, -1, -1)), dim=-1)


def at_least_float32(x: Tensor) -> Tensor:
    """Convert half precision to float32, for costs and losses."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def mean_count(count: int, device: torch.device) -> Tensor:
    """Return the mean of ``count`` over all training processes, at least 1, as a float scalar."""
    mean = torch.tensor(float(count), device=device)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(mean)
        mean /= torch.distributed.get_world_size()
    return mean.clamp(min=1)
