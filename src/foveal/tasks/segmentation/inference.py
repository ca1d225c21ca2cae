"""Inference on whole images: input size, sliding windows, several scales, mirroring.

The rules are those of MMSegmentation, by which the published figures were found: scores are resized to the image's own
size, turned into probabilities, and then averaged. Unlike there, images are downsampled with antialiasing, as in
training, and never rounded to 8 bits; see docs/released_segmenters.md.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.errors import FovealError
from foveal.tasks.segmentation.segmenter import Segmenter


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin on a side of ``length`` pixels: every ``stride``, the last one pushed back to end with it.

    A side that is not longer than the window is taken whole, from 0.
    """
    last = max(length - window, 0)
    return [*range(0, last, stride), last]


def sliding_window(
    scores: Callable[[Tensor], Tensor], image: Tensor, window: int, stride: int, at_once: int = 1
) -> Tensor:
    """Scores (C, H, W), float32, of an image (3, H, W): each pixel's mean over the windows that see it.

    The rule is that of MMSegmentation's ``slide_inference``: scores are summed, and divided by how often a pixel was
    seen, so all windows weigh the same. A side shorter than the window is not padded.

    Args:
        scores: from (B, 3, h, w) to (B, C, h, w).
        window, stride: in pixels, of both sides; a stride above the window would leave gaps.
        at_once: windows in a batch; they are all of one size.
    """
    height, width = image.shape[-2:]
    tops, lefts = (window_starts(length, window, stride) for length in (height, width))
    corners = list(product(tops, lefts))
    total: Tensor | None = None
    for first in range(0, len(corners), at_once):
        some = corners[first : first + at_once]
        found = scores(torch.stack([image[:, top : top + window, left : left + window] for top, left in some]))
        if total is None:
            total = found.new_zeros(found.shape[1], height, width, dtype=torch.float32)
        for (top, left), one in zip(some, found, strict=True):
            total[:, top : top + window, left : left + window] += one
    assert total is not None
    seen = torch.outer(_times_seen(tops, window, height), _times_seen(lefts, window, width))
    return total.div_(seen.to(total.device))


def _times_seen(starts: list[int], window: int, length: int) -> Tensor:
    """How many of the windows see each pixel of a side: (length,) float32."""
    times = torch.zeros(length)
    for start in starts:
        times[start : start + window] += 1
    return times


CLASSES_AT_ONCE = 16
"""So many classes' scores are held in the image's own size where the best class alone is wanted."""


class BrokenScores(FovealError):
    """A segmenter's scores are no numbers."""


@dataclass(frozen=True)
class Inference:
    """How images are brought before a segmenter, and what is made of its scores.

    Attributes:
        short: pixels of the short side that images are fitted to, their proportions kept; None leaves them as they are.
        long: what the long side must not exceed then; the short one becomes shorter instead.
        window: side of the windows that an image is seen through, in its fitted size; None shows it whole.
        stride: from one window to the next.
        scales: factors of the fitted size (of ``short`` and ``long``); the probabilities of all of them are averaged.
        flip: average with those of the mirrored image too, at every scale.
        multiple: sides of the fitted image are enlarged to multiples of it. TransXNet's Semantic FPN was evaluated with
            32, other published segmenters with 1.
        windows_at_once: windows in a batch. It concerns memory and speed alone.

    Raises:
        FovealError: values that make no sense, alone or together.
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
            raise FovealError(f"A {given} needs a {missing}: pass both, or none to show images whole.")
        if self.window is not None and self.stride is not None and self.stride > self.window:
            raise FovealError(
                f"A stride of {self.stride} leaves gaps between windows of {self.window} pixels: pass at most "
                f"{self.window}."
            )
        if not self.scales or not all(math.isfinite(scale) and scale > 0 for scale in self.scales):
            raise FovealError(f"scales must be positive numbers, at least one, not {tuple(self.scales)}.")

    def scaled(self, factor: float) -> "Inference":
        """The same for a segmenter that was trained on larger or smaller crops: all sides in pixels times ``factor``,
        also of images that would else stay as they are."""

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
        """What is averaged over: scales, and whether the image is mirrored."""
        return [(scale, mirrored) for scale in self.scales for mirrored in ((False, True) if self.flip else (False,))]

    def fitted(self, height: int, width: int, scale: float = 1.0) -> tuple[int, int]:
        """Height and width in which an image is seen at a scale, each rounded to the nearest, at least 1."""
        short, long = sorted((height, width))
        wanted = scale if self.short is None else self.short * scale / short
        factor = min(wanted, self.long * scale / long)
        return self._enlarged(int(height * factor + 0.5)), self._enlarged(int(width * factor + 0.5))

    def _enlarged(self, side: int) -> int:
        return max(math.ceil(side / self.multiple), 1) * self.multiple


WHOLE = Inference(short=512, long=2048)
"""ADE20K's images whole, in one scale: how Mask2Former is evaluated."""
ALIGNED = replace(WHOLE, multiple=32)
"""Whole, with sides that TransXNet's strides divide: how its Semantic FPN was evaluated."""
SLIDING = replace(WHOLE, window=512, stride=341)
"""Through windows as large as the crops of training, which overlap by a third: how UPerNet was evaluated."""
MULTI_SCALE = replace(WHOLE, scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75), flip=True)
"""Twelve views, each of the whole image: UPerNet's published multi-scale figures. Its position bias was interpolated
from 800 x 800 then, or extrapolated."""


@torch.no_grad()
def segment(model: Segmenter, image: Tensor, inference: Inference = WHOLE) -> Tensor:
    """Probabilities of an image's pixels, as the segmenter's ``probabilities`` gives them, averaged over all views.

    Up to three tensors of the result's size are held (630 MB each, for 150 classes and 512 x 2048 pixels), and the
    scores in the size that the network saw; ``label_map`` needs less.

    Args:
        model: in evaluation mode.
        image: (3, H, W) float in [0, 1], of any size, on the model's device.

    Returns:
        (num_classes, H, W) float32.
    """
    views, total = inference.views, None
    for scale, mirrored in views:
        scores = _resized(_scores(model, image, inference, scale, mirrored), image)
        probabilities = model.probabilities(scores[None])[0]
        del scores
        total = torch.zeros_like(probabilities) if total is None else total  # ours, to be written into
        total += probabilities.flip(-1) if mirrored else probabilities
        del probabilities
    assert total is not None
    return total.div_(len(views))


@torch.no_grad()
def label_map(model: Segmenter, image: Tensor, inference: Inference = WHOLE) -> Tensor:
    """The most probable class of each pixel, (H, W) int64; arguments as in ``segment``.

    Where there is one view, the largest score tells it, and the scores of all classes are never held in the image's own
    size: so photographs of many megapixels can be segmented.

    Raises:
        BrokenScores: scores that are no numbers.
    """
    views = inference.views
    if len(views) > 1:
        best, classes = segment(model, image, inference).max(0)
    else:
        best, classes = _best(_scores(model, image, inference, *views[0]), image)
    if best.isnan().any():
        raise BrokenScores("The segmenter's scores are no numbers: its weights are broken, take others.")
    return classes


def _best(scores: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """The largest score of each pixel of the image and its class; of equal ones the first."""
    best = classes = None
    for first in range(0, len(scores), CLASSES_AT_ONCE):
        found, at = _resized(scores[first : first + CLASSES_AT_ONCE], image).max(0)
        if best is None or classes is None:
            best, classes = found, at
        else:
            classes = torch.where(found > best, at + first, classes)
            best = torch.maximum(best, found)  # which keeps what is no number
    assert best is not None
    assert classes is not None
    return best, classes


def _scores(model: Segmenter, image: Tensor, inference: Inference, scale: float, mirrored: bool) -> Tensor:
    """Scores (C, h, w), float32, in the fitted size, of one view of the image; those of a mirrored one are mirrored."""
    height, width = image.shape[-2:]
    seen = _fit(image, inference.fitted(height, width, scale))
    seen = seen.flip(-1) if mirrored else seen
    if inference.window is None or inference.stride is None:
        return model(seen[None])[0].float()
    return sliding_window(model, seen, inference.window, inference.stride, inference.windows_at_once)


def _fit(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, with antialiasing as in training: enlarged images are the same with or without."""
    if image.shape[-2:] == size:
        return image
    return F.interpolate(image[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]


def _resized(scores: Tensor, image: Tensor) -> Tensor:
    """Scores in the image's own size. Bilinear without antialiasing, as published, also where that is smaller."""
    if scores.shape[-2:] == image.shape[-2:]:
        return scores
    return F.interpolate(scores[None], size=image.shape[-2:], mode="bilinear", align_corners=False)[0]
