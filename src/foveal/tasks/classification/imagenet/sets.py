"""ImageNet's test sets: location, classes, the mapping from folder names to logits, and published accuracies.

ImageNet-A: Hendrycks et al. 2021, arXiv:1907.07174. ImageNet-R: Hendrycks et al. 2021, arXiv:2006.16241.
ImageNet-Sketch: Wang et al. 2019, arXiv:1905.13549. ImageNet-V2: Recht et al. 2019, arXiv:1902.10811 (its
matched-frequency images). ImageNet-C: see corruptions.py.

Published accuracies besides ImageNet-1K's top-1, which is in ``foveal.models.catalogue``: TransNeXt, arXiv:2311.17132,
third version, table 1 (robustness, also in its repository) and table 5 (sizes and modes, appendix D.2); TransXNet,
arXiv:2310.19380, section IV-A. All are top-1 in percent, and mCE for ImageNet-C.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import timm
import torch
from torch import Tensor

from foveal.errors import FovealError
from foveal.models.catalogue import published_top1
from foveal.tasks.classification.modes import Mode
from foveal.tasks.classification.network import Classifier
from foveal.types import Size

ClassList = Literal["imagenet_1k", "imagenet_a", "imagenet_r"]


@cache
def synsets(name: ClassList) -> tuple[str, ...]:
    """Return the WordNet IDs of a set's classes ("n01440764"), in the order of ImageNet-1K's logits.

    The lists are text files in this folder: one synset per line, with their content and source on top.
    """
    lines = Path(__file__).with_name(f"{name}.txt").read_text(encoding="ascii").splitlines()
    return tuple(line for line in lines if not line.startswith("#"))


@cache
def indices(name: ClassList) -> tuple[int, ...]:
    """Return the logit indices (0 to 999) of a set's classes, in ascending order."""
    place = {synset: index for index, synset in enumerate(synsets("imagenet_1k"))}
    return tuple(place[synset] for synset in synsets(name))


SetName = Literal["val", "a", "r", "sketch", "v2", "c"]


@dataclass(frozen=True)
class Labels:
    """Targets of the class folders of a set.

    Attributes:
        names: the evaluated classes, by the names of their folders.
        columns: indices of the logits that are compared, (n,) int64 in ascending order; None for all of them.
        targets: index into the columns for each folder, in the data's order; (folders,) int64.
    """

    names: tuple[str, ...]
    columns: Tensor | None
    targets: Tensor


@dataclass(frozen=True)
class ImageSet:
    """A published test set for ImageNet-1K classifiers.

    Attributes:
        title: common name.
        folders: possible folder names; the first is that of its public archive.
        images: number of images in the published set.
        classes: its classes; if there are fewer than 1,000, all other logits are ignored.
        numbered: whether folders are named by class number, 0 to 999, instead of synset.
    """

    title: str
    folders: tuple[str, ...]
    images: int
    classes: ClassList = "imagenet_1k"
    numbered: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its class folders, in the order of the logits."""
        return tuple(map(str, indices(self.classes))) if self.numbered else synsets(self.classes)

    def folder(self, data: Path) -> Path:
        """Return the set's folder in ``data``.

        Raises:
            FovealError: there is none.
        """
        found = next((data / name for name in self.folders if (data / name).is_dir()), None)
        if found is None:
            raise FovealError(
                f"{self.title} is not in {data}: unpack it there, or link it, as {data / self.folders[0]}."
            )
        return found

    def labels(self, names: Sequence[str], folder: Path) -> Labels:
        """Return the targets of class folders called ``names``.

        Raises:
            FovealError: a name is not a class of this set.
        """
        columns, known = indices(self.classes), self.names
        place = {name: position for position, name in enumerate(known)}
        unknown = next((name for name in names if name not in place), None)
        if unknown is not None:
            raise FovealError(
                f"{folder} has a class folder {unknown!r}, which is not one of the {len(known)} folders of "
                f"{self.title}, such as {known[0]!r}: pass the folder as unpacked from its archive."
            )
        targets = torch.tensor([place[name] for name in names])
        return Labels(known, None if self.classes == "imagenet_1k" else torch.tensor(columns), targets)


SETS: dict[SetName, ImageSet] = {
    "a": ImageSet("ImageNet-A", ("imagenet-a",), 7_500, "imagenet_a"),
    "r": ImageSet("ImageNet-R", ("imagenet-r",), 30_000, "imagenet_r"),
    "sketch": ImageSet("ImageNet-Sketch", ("sketch", "imagenet-sketch"), 50_889),
    "v2": ImageSet("ImageNet-V2", ("imagenetv2-matched-frequency-format-val", "imagenet-v2"), 10_000, numbered=True),
    "c": ImageSet("ImageNet-C", ("imagenet-c",), 3_750_000),
}
VAL_IMAGES = 50_000


def set_title(name: SetName) -> str:
    """Return the common name of a set."""
    return "validation" if name == "val" else SETS[name].title


def check_knows_imagenet(classifier: Classifier, title: str) -> None:
    """Raise FovealError unless a classifier's logits are ImageNet-1K's classes in their order."""
    known = synsets("imagenet_1k")
    right = tuple(classifier.classes) == known if classifier.trained_here else len(classifier.classes) == len(known)
    if not right:
        raise FovealError(
            f"{title} is for classifiers of ImageNet's 1,000 classes, and {classifier.name} has "
            f"{len(classifier.classes)} other classes: pass other weights, or leave this set out."
        )


_ROBUSTNESS: dict[str, dict[SetName, float]] = {
    "transnext_micro.in1k": {"c": 50.8, "a": 29.9, "r": 45.8, "sketch": 33.0, "v2": 72.6},
    "transnext_tiny.in1k": {"c": 46.5, "a": 39.9, "r": 49.6, "sketch": 37.6, "v2": 73.8},
    "transnext_small.in1k": {"c": 43.9, "a": 47.1, "r": 52.5, "sketch": 39.7, "v2": 74.8},
    "transnext_base.in1k": {"c": 43.5, "a": 50.6, "r": 53.9, "sketch": 41.4, "v2": 75.1},
    "transnext_small.in1k_384": {"a": 58.3, "r": 56.4, "sketch": 43.2, "v2": 76.8},
    "transnext_base.in1k_384": {"a": 61.6, "r": 57.7, "sketch": 44.7, "v2": 77.0},
    "transxnet_t.in1k": {"v2": 70.7},
    "transxnet_s.in1k": {"v2": 73.8},
    "transxnet_b.in1k": {"v2": 75.0},
}

#: Sides in pixels of table 5: the training size, at which all modes are equal, and larger ones.
SIZES = (224, 256, 288, 384, 480, 512, 640)

_MULTI_SCALE: dict[tuple[str, Mode], tuple[float, ...]] = {  # at SIZES[1:]
    ("transnext_micro.in1k", "normal"): (82.8, 82.9, 83.1, 82.1, 81.6, 79.3),
    ("transnext_micro.in1k", "linear"): (82.5, 82.4, 82.3, 80.9, 80.3, 77.6),
    ("transnext_tiny.in1k", "normal"): (84.3, 84.3, 84.6, 83.8, 83.2, 81.6),
    ("transnext_tiny.in1k", "no_length_scaling"): (84.3, 84.4, 84.7, 83.7, 83.2, 80.9),
    ("transnext_tiny.in1k", "interpolate"): (84.1, 84.2, 84.3, 83.1, 82.4, 79.5),
    ("transnext_tiny.in1k", "linear"): (84.0, 83.9, 84.1, 83.0, 82.6, 80.7),
    ("transnext_small.in1k", "normal"): (84.9, 84.9, 85.0, 84.1, 83.8, 82.2),
    ("transnext_small.in1k", "linear"): (84.7, 84.7, 84.9, 84.0, 83.6, 81.7),
    ("transnext_base.in1k", "normal"): (85.1, 85.1, 85.5, 84.7, 84.3, 82.8),
    ("transnext_base.in1k", "linear"): (85.0, 84.9, 85.1, 84.1, 83.5, 81.5),
}


def published(weights: str, name: SetName, mode: Mode | None, size: Size) -> float | None:
    """Return the published figure of the released ``weights`` ("transnext_tiny.in1k"), or None if there is none.

    Args:
        weights: name of the network and its weights.
        name: test set.
        mode: None for the network's own, which is "normal" for released weights.
        size: (height, width) of the images.
    """
    mode, own = mode or "normal", _own_size(weights)
    if name != "val":
        return _ROBUSTNESS.get(weights, {}).get(name) if (mode, size) == ("normal", own) else None
    row = _MULTI_SCALE.get((weights, mode))
    if size == own and (mode == "normal" or row):
        return published_top1(weights)
    larger = {(side, side): figure for side, figure in zip(SIZES[1:], row or (), strict=False)}
    return larger.get(size)


def _own_size(weights: str) -> Size | None:
    configuration = timm.get_pretrained_cfg(weights)
    return configuration.input_size[1:] if configuration else None
