"""The neck: maps of any widths become levels of one width, and one level more (Deformable DETR, section 4.1)."""

from collections.abc import Sequence

from torch import Tensor, nn

from foveal.tasks.detection.dino import GROUPS


class ConvNorm(nn.Module):
    """A convolution without bias and a group norm."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
        self.norm = nn.GroupNorm(GROUPS, out_channels)
        nn.init.xavier_uniform_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Neck(nn.Module):
    """A 1x1 convolution for each map, and a 3x3 one of stride 2 that makes one level more from the last map.

    Args:
        channels: widths of the maps.
        dim: width of the levels, a multiple of 32.
    """

    def __init__(self, channels: Sequence[int], dim: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(ConvNorm(width, dim, kernel_size=1) for width in channels)
        self.extra = ConvNorm(channels[-1], dim, kernel_size=3, stride=2)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Levels (B, dim, H, W), one more than the maps (B, channels, H, W)."""
        levels = [conv(m) for conv, m in zip(self.convs, maps, strict=True)]
        return [*levels, self.extra(maps[-1])]
