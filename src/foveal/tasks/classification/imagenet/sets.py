"""ImageNet's test sets: location, classes, the mapping from folder names to logits, and published accuracies.

ImageNet-A: Hendrycks et al. 2021, arXiv:1907.07174. ImageNet-R: Hendrycks et al. 2021, arXiv:2006.16241.
ImageNet-Sketch: Wang et al. 2019, arXiv:1905.13549. ImageNet-V2: Recht et al. 2019, arXiv:1902.10811 (its
matched-frequency images). ImageNet-C: see corruptions.py.

Published accuracies are those of the papers' tables (``foveal.papers``): "transnext.imagenet" and "transxnet.imagenet"
for the sets, "transnext.multi_scale" for sizes and modes. All are top-1 in percent, and mCE for ImageNet-C.
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
from foveal.papers import Row, paper_table
from foveal.tasks.classification.names import Mode, SetName
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


#: The column of a robustness set in the papers' tables.
_COLUMNS: dict[SetName, str] = {"c": "mce", "a": "top1_a", "r": "top1_r", "sketch": "top1_sketch", "v2": "top1_v2"}
_TABLES = ("transnext.imagenet", "transxnet.imagenet")

#: Sides in pixels of table 5: the training size, at which all modes are equal, and larger ones.
SIZES = (224, 256, 320, 384, 480, 512, 640)

_METHODS: dict[Mode, str] = {
    "normal": "Normal Mode",
    "no_length_scaling": "No Length-scaling",
    "interpolate": "Interpolate RPE",
    "linear": "Linear Mode",
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
        return _robustness(weights, _COLUMNS[name]) if (mode, size) == ("normal", own) else None
    row = _multi_scale(weights, mode)
    if size == own and (mode == "normal" or row):
        return published_top1(weights)
    return row.number(f"top1_{size[0]}") if row and size[0] == size[1] else None


def evaluated_by(column: str) -> tuple[SetName, Size | None] | None:
    """Return the set and the size of the images that a column of the papers' tables is of, None for the network's own
    size; None for a column without accuracies of classifiers."""
    robust = {name: one for one, name in _COLUMNS.items()}
    if column in robust:
        return robust[column], None
    side = column.removeprefix("top1_")
    if column in ("top1", "top1_cifar"):
        return "val", None
    return ("val", (int(side), int(side))) if column.startswith("top1_") and side.isdecimal() else None


def mode_of(row: Row) -> Mode | None:
    """Return the mode that a row of the papers' tables was evaluated in; None for the network's own."""
    modes = {method: mode for mode, method in _METHODS.items()}
    return modes.get(str(row.figures["method"].value)) if "method" in row.figures else None


def _robustness(weights: str, column: str) -> float | None:
    rows = (paper_table(table).models.get(weights) for table in _TABLES)
    return next((row.number(column) for row in rows if row), None)


def _multi_scale(weights: str, mode: Mode) -> Row | None:
    rows = paper_table("transnext.multi_scale").rows
    return next((r for r in rows if (r.model, r.figures["method"].value) == (weights, _METHODS[mode])), None)


def _own_size(weights: str) -> Size | None:
    configuration = timm.get_pretrained_cfg(weights)
    return configuration.input_size[1:] if configuration else None
