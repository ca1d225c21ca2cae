"""How whole images are fed to a segmenter: the size, windows and views of its input."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from foveal.errors import FovealError
from foveal.types import Size


@dataclass(frozen=True)
class Inference:
    """How images are fed to a segmenter, and how its scores are combined.

    Attributes:
        short: short side in pixels that images are resized to, keeping their aspect ratio; None keeps their size.
        long: upper limit of the resized long side; the short one becomes shorter instead.
        window: side of the sliding windows, in pixels of the resized image; None for the whole image.
        stride: distance between windows.
        scales: factors of the resized size (of ``short`` and ``long``), whose probabilities are averaged.
        flip: average over the mirrored image as well, at every scale.
        multiple: sides of the resized image are rounded up to multiples of it. TransXNet's Semantic FPN was evaluated
            with 32, other published segmenters with 1.
        windows_at_once: windows per batch. It affects memory and speed only.

    Raises:
        FovealError: invalid or inconsistent values.
    """

    short: int | None = 512
    long: int = 2048
    window: int | None = None
    stride: int | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    multiple: int = 1
    windows_at_once: int = 4

    def __post_init__(self) -> None:
        for name in ("short", "long", "window", "stride", "multiple", "windows_at_once"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise FovealError(f"{name} must be at least 1, not {value}.")
        if self.short is not None and self.long < self.short:
            raise FovealError(f"The long side's limit, {self.long}, is below the short side, {self.short}: raise it.")
        if (self.window is None) != (self.stride is None):
            given, missing = ("stride", "window") if self.window is None else ("window", "stride")
            raise FovealError(f"A {given} needs a {missing}: pass both, or neither for whole images.")
        if self.window is not None and self.stride is not None and self.stride > self.window:
            raise FovealError(
                f"A stride of {self.stride} leaves gaps between windows of {self.window} pixels: pass at most "
                f"{self.window}."
            )
        if not self.scales or not all(math.isfinite(scale) and scale > 0 for scale in self.scales):
            raise FovealError(f"scales must be positive numbers, at least one, not {tuple(self.scales)}.")

    def scaled(self, factor: float) -> Inference:
        """Return the settings for a segmenter trained on crops of another size: all sides in pixels times ``factor``.

        Images that would keep their size are scaled as well.
        """

        def side(pixels: int | None) -> int | None:
            return None if pixels is None else max(1, round(factor * pixels))

        return replace(
            self,
            short=side(self.short),
            long=max(1, round(factor * self.long)),
            window=side(self.window),
            stride=side(self.stride),
            scales=self.scales if self.short is not None else tuple(factor * scale for scale in self.scales),
        )

    @property
    def views(self) -> list[tuple[float, bool]]:
        """Pairs of (scale, whether the image is mirrored) that are averaged over."""
        return [(scale, mirrored) for scale in self.scales for mirrored in ((False, True) if self.flip else (False,))]

    def fitted(self, height: int, width: int, scale: float = 1.0) -> Size:
        """Return the (height, width) that an image is resized to at a scale, rounded to the nearest, at least 1."""
        short, long = sorted((height, width))
        wanted = scale if self.short is None else self.short * scale / short
        factor = min(wanted, self.long * scale / long)
        return self._rounded_up(int(height * factor + 0.5)), self._rounded_up(int(width * factor + 0.5))

    def _rounded_up(self, side: int) -> int:
        return max(math.ceil(side / self.multiple), 1) * self.multiple


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Return where windows start on a side of ``length`` pixels: every ``stride``, the last one shifted back to fit.

    A side not longer than the window gets a single window at 0.
    """
    last = max(length - window, 0)
    return [*range(0, last, stride), last]
