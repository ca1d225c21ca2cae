"""Base classes of the segmenters: images in, class scores out, losses in training."""

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.tasks.dense.create import find_head
from foveal.tasks.dense.model import DenseBackbone, DenseModel
from foveal.types import Size

REFERENCE_SIZE = 512  # pixels, of the released segmenters
#: Module of each segmenter, imported when one is created: some need transformers.
BUILDERS = {
    "upernet": "foveal.tasks.segmentation.upernet",
    "mask2former": "foveal.tasks.segmentation.mask2former",
    "semantic_fpn": "foveal.tasks.segmentation.semantic_fpn",
}

IGNORED = 255
"""Label of pixels that are excluded from losses and scores."""
SMALLEST = 32
"""Smallest side that backbones are given: smaller images are padded with zeros at the right and bottom."""


class Segmenter(DenseModel):
    """Base class of models that predict the class of each pixel.

    In evaluation it takes images (B, 3, H, W), float in [0, 1], of any height and width, and returns scores
    (B, num_classes, H, W); the largest one gives a pixel's class, and ``probabilities`` converts them for averaging.
    In training it takes images and labels (B, H, W), int64 from 0 to ``num_classes - 1`` or ``IGNORED``, and returns a
    dict of losses to be summed and minimised. Images are normalised inside.

    Subclasses implement ``losses`` and ``scores``.
    """

    called = "segmenter"
    size_divisor: ClassVar[int] = 1
    """In evaluation, images are padded to multiples of it with zeros at the right and bottom."""
    mean: Tensor
    std: Tensor

    def __init__(self, backbone: DenseBackbone, num_classes: int) -> None:
        super().__init__(backbone, num_classes)
        for name, values in (("mean", IMAGENET_DEFAULT_MEAN), ("std", IMAGENET_DEFAULT_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def losses(self, maps: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Return the losses of a batch, given the backbone's maps and labels (B, H, W)."""
        raise NotImplementedError

    def scores(self, maps: list[Tensor], size: Size) -> Tensor:
        """Return scores (B, num_classes, *size), given the backbone's maps of images of that (height, width)."""
        raise NotImplementedError

    def probabilities(self, scores: Tensor) -> Tensor:
        """Convert scores (B, num_classes, H, W) to what is averaged over scales and mirrored images: their softmax."""
        return scores.softmax(1)

    def dense_pass(self, images: Tensor) -> Any:
        """See ``DenseModel``; auxiliary heads, which only run in training, are not included."""
        return self.scores(self.backbone(images), (images.shape[-2], images.shape[-1]))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Any:
        """Return losses in training, scores in evaluation; see the class.

        Raises:
            ValueError: images or labels of another dtype or shape.
        """
        _check_images(images)
        height, width = images.shape[-2:]
        bottom, right = self._padding(height), self._padding(width)
        padded = F.pad((images - self.mean) / self.std, (0, right, 0, bottom))
        if not self.training:
            return self.scores(self.backbone(padded), (padded.shape[-2], padded.shape[-1]))[..., :height, :width]
        if labels is None:
            raise ValueError("a segmenter in training mode needs labels; call eval() for inference")
        _check_labels(images, labels)
        return self.losses(self.backbone(padded), F.pad(labels, (0, right, 0, bottom), value=IGNORED))

    def _padding(self, side: int) -> int:
        """Return the number of pixels that a side is padded by."""
        divisor = 1 if self.training else self.size_divisor
        return math.ceil(max(side, SMALLEST) / divisor) * divisor - side


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or not images.numel() or not images.is_floating_point():
        raise ValueError(
            f"images must be a float tensor (batch, 3, height, width) in [0, 1], not {images.dtype} "
            f"{tuple(images.shape)}"
        )


def _check_labels(images: Tensor, labels: Tensor) -> None:
    wanted = (len(images), *images.shape[-2:])
    if labels.shape != wanted or labels.dtype != torch.int64:
        raise ValueError(f"labels must be int64 {wanted}, not {labels.dtype} {tuple(labels.shape)}")


class PixelSegmenter(Segmenter):
    """Base class of segmenters that predict logits for each pixel: UPerNet and Semantic FPN.

    The logits have a stride and are resized bilinearly to the image. Scores are these logits; in training,
    ``loss_decode`` is their ``pixel_cross_entropy``. Losses and initial weights are those of MMSegmentation, which the
    released segmenters were trained with. See ``Segmenter``.
    """

    class_layers: tuple[str, ...] = ("decode_head.classifier.",)

    def logits(self, maps: list[Tensor]) -> Tensor:
        """Return logits (B, num_classes, h, w), given the backbone's maps."""
        raise NotImplementedError

    def losses(self, maps: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        return {"loss_decode": pixel_cross_entropy(self.logits(maps), labels)}

    def scores(self, maps: list[Tensor], size: Size) -> Tensor:
        return resize(self.logits(maps), size)

    def adapt_released(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add the batch counts of batch norms, which are not used here, if the file lacks them."""
        counts = {
            name: tensor
            for name, tensor in self.state_dict().items()
            if name.endswith(".num_batches_tracked") and not name.startswith("backbone.")
        }
        return {**counts, **state}


def resize(logits: Tensor, size: Size) -> Tensor:
    """Resize logits (B, C, h, w) bilinearly to (B, C, *size), in at least float32."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def pixel_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross entropy of logits (B, C, h, w), resized to labels (B, H, W).

    It is the sum over all labelled pixels, divided by the number of *all* pixels: the default of MMSegmentation, which
    the published segmenters use. An image is weighted by its number of labelled pixels, and a batch without any gives 0
    instead of NaN.
    """
    resized = resize(logits, (labels.shape[-2], labels.shape[-1]))
    return F.cross_entropy(resized, labels, ignore_index=IGNORED, reduction="none").mean()


def init_weights(head: nn.Module) -> None:
    """Initialise a head.

    Convolutions get He initialisation for ReLU (arXiv:1502.01852, fan-out), ``classifier`` a normal distribution with
    standard deviation 0.01, biases 0.
    """
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    nn.init.normal_(head.get_submodule("classifier").weight, std=0.01)  # type: ignore[arg-type]


def create_segmenter(name: str, backbone: str = "transnext_tiny", num_classes: int = 150, **options: Any) -> Segmenter:
    """Create a segmenter as published; see ``Segmenter`` for inputs and outputs.

    Args:
        name: "upernet", "mask2former" or "semantic_fpn".
        backbone: any network of timm or of ours with maps of strides 4 to 32.
        num_classes: pixel classes, at most 255, including the background if the labels have it.
        options: ``pretrained_backbone`` (start from the released weights of the backbone), ``drop_path``,
            ``frozen_stages``, ``position_bias``, ``reference_size`` (512 here) and ``backbone_args``, see
            ``DenseBackbone``; and the ``Settings`` of the head.

    Raises:
        FovealError: no such segmenter or backbone, options that it does not have, or too many classes.
    """
    options = {"reference_size": REFERENCE_SIZE, **options}
    build, make_backbone = find_head("segmenter", name, BUILDERS, backbone, num_classes, options)
    if num_classes > IGNORED:
        raise FovealError(
            f"num_classes must be at most {IGNORED}, which is the label of ignored pixels, not {num_classes}: merge "
            "classes."
        )
    return build(make_backbone(), num_classes)
