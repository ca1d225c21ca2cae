"""Levels of maps as one row of tokens, and what attention must know of where they came from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveal.tasks.dense.detr import sine_embedding_2d

Size = tuple[int, int]

# transformers has this embedding with places at pixel centres; DINO's are at their far edges, and of temperature 20.
TEMPERATURE = 20


@dataclass(frozen=True)
class Levels:
    """The tokens of all levels, level by level and row by row, N in all; and their places.

    Attributes:
        tokens: (B, N, dim).
        positions: (B, N, dim), what is added to them in queries: where they are, and in which level.
        inside: (B, N) bool, whether a token lies in its image and not in the padding.
        centres: (B, N, 2) as (x, y) relative to the image without its padding; above 1 in the padding.
        ratios: (B, levels, 2), how much of a level's width and height the image takes.
        shapes: (height, width) of each level.
    """

    tokens: Tensor
    positions: Tensor
    inside: Tensor
    centres: Tensor
    ratios: Tensor
    shapes: tuple[Size, ...]

    def attended(self) -> dict[str, object]:
        """What transformers' deformable attention asks for beside tokens."""
        sizes = torch.tensor(self.shapes, device=self.tokens.device)
        starts = torch.cat((sizes.new_zeros(1), sizes.prod(1).cumsum(0)[:-1]))
        return {"spatial_shapes": sizes, "spatial_shapes_list": list(self.shapes), "level_start_index": starts}


class Flatten(nn.Module):
    """Makes ``Levels`` of maps; learns a vector for each level (Deformable DETR, section 4.1)."""

    def __init__(self, num_levels: int, dim: int) -> None:
        super().__init__()
        self.level_embedding = nn.Parameter(torch.randn(num_levels, dim))

    def forward(self, maps: Sequence[Tensor], image_sizes: Sequence[Size], padded: Size) -> Levels:
        """Levels of maps (B, dim, H, W) of images that were padded from ``image_sizes`` to ``padded``, in pixels."""
        sizes = torch.tensor(image_sizes, device=maps[0].device)
        parts = [self._level(m, self.level_embedding[i], sizes, padded) for i, m in enumerate(maps)]
        tokens, positions, inside, centres, ratios = zip(*parts, strict=True)
        return Levels(
            torch.cat(tokens, 1),
            torch.cat(positions, 1),
            torch.cat(inside, 1),
            torch.cat(centres, 1),
            torch.stack(ratios, 1),
            tuple((m.shape[-2], m.shape[-1]) for m in maps),
        )

    @staticmethod
    def _level(m: Tensor, embedding: Tensor, sizes: Tensor, padded: Size) -> tuple[Tensor, ...]:
        """Tokens, positions, inside, centres and ratios of one level."""
        (_, dim, height, width), dtype = m.shape, embedding.dtype
        rows, columns = _inside(height, padded[0], sizes[:, 0]), _inside(width, padded[1], sizes[:, 1])
        y, x = _ends(rows, dtype), _ends(columns, dtype)
        return (
            m.flatten(2).transpose(1, 2),
            (sine_embedding_2d(y, x, dim, TEMPERATURE) + embedding).flatten(1, 2),
            (rows[:, :, None] & columns[:, None]).flatten(1),
            _grid(y - y[:, :1] / 2, x - x[:, :1] / 2).flatten(1, 2),
            torch.stack((columns.sum(1).to(dtype) / width, rows.sum(1).to(dtype) / height), -1),
        )


def _inside(count: int, padded: int, sizes: Tensor) -> Tensor:
    """(B, count) bool: which rows of a level have an image's pixel under them, as nearest sampling would tell."""
    first_pixel = torch.arange(count, device=sizes.device) * padded // count
    return first_pixel < sizes[:, None]


def _ends(inside: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, count): where each row ends, relative to the rows inside."""
    numbers = torch.arange(1, inside.shape[1] + 1, dtype=dtype, device=inside.device)
    return numbers / inside.sum(1, keepdim=True)


def _grid(y: Tensor, x: Tensor) -> Tensor:
    """(B, H, W, 2) as (x, y) of rows' y (B, H) and columns' x (B, W)."""
    height, width = y.shape[1], x.shape[1]
    return torch.stack((x[:, None].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)), dim=-1)
