"""The network that pictures are of, and photographs as it sees them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn
from torchvision.transforms.functional import to_tensor

from foveal.errors import FovealError
from foveal.image_files import load_rgb
from foveal.models.weights_file import WeightsFile
from foveal.tasks.classification.network import Classifier, described_by_timm, released_name, restore
from foveal.tasks.classification.preprocessing import Preprocessing
from foveal.tasks.network import set_input_size
from foveal.tasks.registry import task_class

Kind = Literal["classification", "detection", "segmentation"]
SIDE = 224  # pixels: of the square that the backbone of a detector or segmenter is shown


@dataclass(frozen=True)
class Photograph:
    """An image as a network sees it.

    Attributes:
        name: what its pictures are called after.
        pixels: (H, W, 3) uint8, resized and cropped for the network.
        tensor: (3, H, W) float32, the same normalised.
        credit: its author and licence, for captions.
    """

    name: str
    pixels: np.ndarray
    tensor: Tensor
    credit: str = ""

    @property
    def credited(self) -> str:
        """The end of a caption, with a space before it; empty without a credit."""
        return f" Photograph: {self.credit}." if self.credit else ""


@dataclass(frozen=True)
class Subject:
    """A network to look at.

    Attributes:
        name: of the network.
        weights: where its weights come from, for captions: "random weights, seed 0".
        kind: what it predicts.
        model: the whole network, in evaluation mode.
        body: its backbone; of a classifier the same.
        classes: name of each class.
        fit: how the backbone's images are made.
        short: short side in pixels of a segmenter's images.
        multi_label: whether each class of a classifier has a probability of its own.
    """

    name: str
    weights: str
    kind: Kind
    model: nn.Module
    body: nn.Module
    classes: list[str]
    fit: Preprocessing
    short: int | None = None
    multi_label: bool = False

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probabilities of a classifier's classes, from the logits of an image (K,)."""
        return logits.float().sigmoid() if self.multi_label else logits.float().softmax(0)

    @property
    def caption(self) -> str:
        """The network and its weights, for captions."""
        return f"{self.name}, {self.weights}"

    def look_at(self, path: str | Path, name: str | None = None) -> Photograph:
        """Return an image file as the backbone is shown it, called by its stem or ``name``.

        Raises:
            FovealError: it is not a readable image.
        """
        return self.photograph(load_rgb(path), name or Path(path).stem)

    def photograph(self, image: Image, name: str) -> Photograph:
        """Return an RGB image as the backbone is shown it."""
        tensor = self.fit.transform()(image)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.fit.mean, self.fit.std))
        pixels = ((tensor * std + mean).clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
        return Photograph(name, pixels.numpy(), tensor)

    def look_at_whole(self, path: str | Path, name: str | None = None) -> Photograph:
        """Return an image file as a detector or segmenter gets it: whole, in [0, 1], and for a segmenter resized.

        Raises:
            FovealError: it is not a readable image.
        """
        return self.whole(load_rgb(path), name or Path(path).stem)

    def whole(self, image: Image, name: str) -> Photograph:
        """Return an RGB image as a detector or segmenter gets it."""
        if self.short is not None:
            scale = self.short / min(image.size)
            image = image.resize((round(image.width * scale), round(image.height * scale)))
        return Photograph(name, np.array(image), to_tensor(image))


def open_subject(checkpoint: Path, model: str | None = None, size: int | None = None) -> Subject:
    """Return the network in a file of weights.

    Args:
        checkpoint: of ``foveal train``, or released weights.
        model: name of the network, for a file that does not say it.
        size: side of the square images in pixels; for a segmenter the short side. None for that of training.

    Raises:
        FovealError: the file is missing, broken, not described, or does not fit.
    """
    file = WeightsFile.open(checkpoint)
    kind: Any = "classification" if file.metadata is None else file.metadata.get("task", "classification")
    if kind == "classification":
        found = restore(file, model, size=None if size is None else (size, size))
        return _classifier(found, f"weights of {checkpoint.name}")
    restored: Any = task_class(kind).restore(file, size=size)
    square = Preprocessing(size=(size or SIDE, size or SIDE))
    subject = Subject(
        restored.name, f"weights of {checkpoint.name}", kind, restored.model.eval(), restored.model.backbone.body,
        restored.classes, square,
    )  # fmt: skip
    return replace(subject, short=restored.inference.short) if kind == "segmentation" else subject


def create_subject(name: str, size: int | None = None, *, pretrained: bool = False, seed: int = 0) -> Subject:
    """Return a classifier of timm or foveal by name, with released or random weights.

    Raises:
        FovealError: there is no such network, it has no released weights, or they cannot be fetched.
    """
    known = released_name(name, (size or SIDE, size or SIDE)) if pretrained else name
    if known is None:
        raise FovealError(f"{name} has no released weights: leave --pretrained out, or pass --checkpoint FILE.")
    torch.manual_seed(seed)
    classifier = described_by_timm(known, pretrained=pretrained)
    if size is not None:
        fit = replace(classifier.fit, size=(size, size))
        set_input_size(classifier.model, fit.size)
        classifier = replace(classifier, fit=fit)
    return _classifier(classifier, "released weights" if pretrained else f"random weights (seed {seed})")


def _classifier(found: Classifier, weights: str) -> Subject:
    model = found.model.eval()
    return Subject(
        found.name, weights, "classification", model, model, found.classes, found.fit, multi_label=found.multi_label
    )
