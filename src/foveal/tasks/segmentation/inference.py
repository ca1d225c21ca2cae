"""Inference on whole images: input size, sliding windows, several scales, mirroring.

The rules are those of MMSegmentation, by which the published figures were found: scores are resized to the image's own
size, turned into probabilities, and then averaged. Unlike there, images are downsampled with antialiasing, as in
training, and never rounded to 8 bits; see docs/released_segmenters.md.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.errors import FovealError
from foveal.runtime.inference import Inference, window_starts
from foveal.tasks.segmentation.segmenter import Segmenter
from foveal.types import Size

CLASSES_AT_ONCE = 16
"""Number of classes whose scores are resized to the image's own size at a time if only the best class is needed."""


class BrokenScores(FovealError):
    """A segmenter's scores are NaN."""


WHOLE = Inference(short=512, long=2048)
"""Whole images of ADE20K at one scale: the evaluation of Mask2Former."""
ALIGNED = replace(WHOLE, multiple=32)
"""Whole images with sides divisible by TransXNet's strides: the evaluation of its Semantic FPN."""
SLIDING = replace(WHOLE, window=512, stride=341)
"""Windows as large as training crops, overlapping by a third: the evaluation of UPerNet."""
MULTI_SCALE = replace(WHOLE, scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75), flip=True)
"""Twelve views of the whole image: UPerNet's published multi-scale figures, with a position bias interpolated from
800 x 800 or extrapolated."""


@torch.no_grad()
def segment(model: Segmenter, image: Tensor, inference: Inference = WHOLE) -> Tensor:
    """Return an image's class probabilities (``model.probabilities``), averaged over all views.

    Up to three tensors of the result's size are held (630 MB each, for 150 classes and 512 x 2048 pixels), and the
    scores in the network's input size; ``label_map`` needs less.

    Args:
        model: in evaluation mode.
        image: (3, H, W) float in [0, 1], of any size, on the model's device.
        inference: input size, windows and views.

    Returns:
        (num_classes, H, W) float32.
    """
    views, total = inference.views, None
    for scale, mirrored in views:
        scores = _resized(_scores(model, image, inference, scale, mirrored), image)
        probabilities = model.probabilities(scores[None])[0]
        del scores
        total = torch.zeros_like(probabilities) if total is None else total  # a new tensor, modified in place
        total += probabilities.flip(-1) if mirrored else probabilities
        del probabilities
    assert total is not None
    return total.div_(len(views))


@torch.no_grad()
def label_map(model: Segmenter, image: Tensor, inference: Inference = WHOLE) -> Tensor:
    """Return the most probable class of each pixel, (H, W) int64; arguments as in ``segment``.

    With a single view, this is the class of the largest score, and the scores of all classes are never held in the
    image's own size, so photographs of many megapixels can be segmented.

    Raises:
        BrokenScores: scores are NaN.
    """
    views = inference.views
    if len(views) > 1:
        best, classes = segment(model, image, inference).max(0)
    else:
        best, classes = _best(_scores(model, image, inference, *views[0]), image)
    if best.isnan().any():
        raise BrokenScores("The segmenter's scores are NaN: its weights are broken, use others.")
    return classes


def _best(scores: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest score of each pixel of the image and its class; the first one of equal scores."""
    best = classes = None
    for first in range(0, len(scores), CLASSES_AT_ONCE):
        found, at = _resized(scores[first : first + CLASSES_AT_ONCE], image).max(0)
        if best is None or classes is None:
            best, classes = found, at
        else:
            classes = torch.where(found > best, at + first, classes)
            best = torch.maximum(best, found)  # which propagates NaN
    assert best is not None
    assert classes is not None
    return best, classes


def _scores(model: Segmenter, image: Tensor, inference: Inference, scale: float, mirrored: bool) -> Tensor:
    """Return scores (C, h, w), float32, of one view in its resized size; those of a mirrored view are mirrored."""
    height, width = image.shape[-2:]
    view = _fit(image, inference.fitted(height, width, scale))
    view = view.flip(-1) if mirrored else view
    if inference.window is None or inference.stride is None:
        return model(view[None])[0].float()
    return sliding_window(model, view, inference.window, inference.stride, inference.windows_at_once)


def _fit(image: Tensor, size: Size) -> Tensor:
    """Resize an image bilinearly, with antialiasing as in training; upsampling is the same with or without."""
    if image.shape[-2:] == size:
        return image
    return F.interpolate(image[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]


def _resized(scores: Tensor, image: Tensor) -> Tensor:
    """Resize scores to the image's own size: bilinear without antialiasing, as published, even when downsampling."""
    if scores.shape[-2:] == image.shape[-2:]:
        return scores
    return F.interpolate(scores[None], size=image.shape[-2:], mode="bilinear", align_corners=False)[0]


def sliding_window(
    scores: Callable[[Tensor], Tensor], image: Tensor, window: int, stride: int, at_once: int = 1
) -> Tensor:
    """Return scores (C, H, W), float32, of an image (3, H, W): each pixel's mean over the windows that contain it.

    As in MMSegmentation's ``slide_inference``, all windows have the same weight. A side shorter than the window is not
    padded.

    Args:
        scores: function from (B, 3, h, w) to (B, C, h, w).
        image: (3, H, W).
        window, stride: in pixels, for both sides; a stride above the window would leave gaps.
        at_once: windows per batch; all have the same size.
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
    counts = torch.outer(_window_counts(tops, window, height), _window_counts(lefts, window, width))
    return total.div_(counts.to(total.device))


def _window_counts(starts: list[int], window: int, length: int) -> Tensor:
    """Return the number of windows that contain each pixel of a side: (length,) float32."""
    counts = torch.zeros(length)
    for start in starts:
        counts[start : start + window] += 1
    return counts
