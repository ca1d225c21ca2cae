"""From backbone maps to tokens: the neck, and the levels' tokens with their positions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveal.tasks.dense.detr import GROUPS, sine_embedding_2d
from foveal.types import Size

# transformers' embedding takes locations at pixel centres; DINO takes them at the far edges, with temperature 20.
TEMPERATURE = 20


class ConvNorm(nn.Module):
    """A convolution without bias, followed by group norm."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
        self.norm = nn.GroupNorm(GROUPS, out_channels)
        nn.init.xavier_uniform_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Neck(nn.Module):
    """Neck: a 1x1 convolution per map, and a strided 3x3 convolution for one more level (Deformable DETR, 4.1).

    Args:
        channels: of the maps.
        dim: channels of the levels, a multiple of 32.
    """

    def __init__(self, channels: Sequence[int], dim: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(ConvNorm(width, dim, kernel_size=1) for width in channels)
        self.extra = ConvNorm(channels[-1], dim, kernel_size=3, stride=2)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return levels (B, dim, H, W), one more than the maps (B, channels, H, W)."""
        levels = [conv(m) for conv, m in zip(self.convs, maps, strict=True)]
        return [*levels, self.extra(maps[-1])]


@dataclass(frozen=True)
class Levels:
    """The N tokens of all levels, level by level and row by row, with their locations.

    Attributes:
        tokens: (B, N, dim).
        positions: (B, N, dim), embeddings of location and level, which attention adds to its queries.
        inside: (B, N) bool, whether a token lies in its image rather than in the padding.
        centres: (B, N, 2) as (x, y) relative to the image without its padding; above 1 in the padding.
        ratios: (B, levels, 2), the fraction of a level's width and height that the image covers.
        shapes: (height, width) of each level.
    """

    tokens: Tensor
    positions: Tensor
    inside: Tensor
    centres: Tensor
    ratios: Tensor
    shapes: tuple[Size, ...]

    def attention_shapes(self) -> dict[str, object]:
        """Return the arguments of transformers' deformable attention that describe the levels' shapes."""
        sizes = torch.tensor(self.shapes, device=self.tokens.device)
        starts = torch.cat((sizes.new_zeros(1), sizes.prod(1).cumsum(0)[:-1]))
        return {"spatial_shapes": sizes, "spatial_shapes_list": list(self.shapes), "level_start_index": starts}


class Flatten(nn.Module):
    """Flatten maps to ``Levels``, with a learned embedding per level (Deformable DETR, section 4.1)."""

    def __init__(self, num_levels: int, dim: int) -> None:
        super().__init__()
        self.level_embedding = nn.Parameter(torch.randn(num_levels, dim))

    def forward(self, maps: Sequence[Tensor], image_sizes: Sequence[Size], padded: Size) -> Levels:
        """Return the levels of maps (B, dim, H, W) of images padded from ``image_sizes`` to ``padded``, in pixels."""
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
        """Return tokens, positions, inside, centres and ratios of one level."""
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
    """Return (B, count) bool: which rows of a level lie in the image, by nearest-neighbour sampling."""
    first_pixel = torch.arange(count, device=sizes.device) * padded // count
    return first_pixel < sizes[:, None]


def _ends(inside: Tensor, dtype: torch.dtype) -> Tensor:
    """Return (B, count): where each row ends, relative to the rows inside the image."""
    numbers = torch.arange(1, inside.shape[1] + 1, dtype=dtype, device=inside.device)
    return numbers / inside.sum(1, keepdim=True)


def _grid(y: Tensor, x: Tensor) -> Tensor:
    """Return the (x, y) grid (B, H, W, 2) of rows at y (B, H) and columns at x (B, W)."""
    height, width = y.shape[1], x.shape[1]
    return torch.stack((x[:, None].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)), dim=-1)
