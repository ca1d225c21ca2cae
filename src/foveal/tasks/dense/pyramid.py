"""Feature pyramid: maps of all strides, each with the information of the coarser ones.

Lin, Dollár, Girshick, He, Hariharan, Belongie, "Feature Pyramid Networks for Object Detection", arXiv:1612.03144.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class FeaturePyramid(nn.Module):
    """Compute maps of equal channels at the backbone's strides, and optionally coarser ones.

    Args:
        in_channels: channels of the backbone's maps, from fine to coarse.
        channels: channels of all output maps.
        extra: coarser maps. "pool" adds one with every second position of the coarsest map (Mask R-CNN); "conv" adds
            two convolutions of stride 2, on the backbone's last map and on the first of the two, without activation
            between them (RetinaNet); None adds none.

    Returns:
        A list of maps (B, channels, h, w), from fine to coarse.
    """

    def __init__(self, in_channels: Sequence[int], channels: int = 256, extra: str | None = "pool") -> None:
        super().__init__()
        if extra not in ("pool", "conv", None):
            raise ValueError(f"extra must be 'pool', 'conv' or None, not {extra!r}")
        self.pools = extra == "pool"
        self.lateral = nn.ModuleList(nn.Conv2d(dim, channels, 1) for dim in in_channels)
        self.output = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        coarser = (in_channels[-1], channels) if extra == "conv" else ()
        self.extra = nn.ModuleList(nn.Conv2d(dim, channels, 3, stride=2, padding=1) for dim in coarser)
        self.apply(_init_weights)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Compute the pyramid of maps (B, in_channels[i], h, w), each at least half the size of the one before."""
        inner = [layer(m) for layer, m in zip(self.lateral, maps, strict=True)]
        for level in reversed(range(1, len(inner))):
            finer = inner[level - 1]
            inner[level - 1] = finer + F.interpolate(inner[level], size=finer.shape[-2:], mode="nearest")
        outputs = [layer(m) for layer, m in zip(self.output, inner, strict=True)]
        if self.pools:
            return [*outputs, outputs[-1][..., ::2, ::2]]
        coarse = maps[-1]
        for layer in self.extra:
            coarse = layer(coarse)
            outputs.append(coarse)
        return outputs


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]
