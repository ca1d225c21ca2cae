"""The sets: where each lies, which classes it has, and how the names of its folders become logits.

ImageNet-A: Hendrycks et al. 2021, arXiv:1907.07174. ImageNet-R: Hendrycks et al. 2021, arXiv:2006.16241.
ImageNet-Sketch: Wang et al. 2019, arXiv:1905.13549. ImageNet-V2: Recht et al. 2019, arXiv:1902.10811 (its
matched-frequency images). ImageNet-C: see corruptions.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from foveal.errors import FovealError
from foveal.tasks.classification.network import Classifier

ClassList = Literal["imagenet_1k", "imagenet_a", "imagenet_r"]


@cache
def synsets(name: ClassList) -> tuple[str, ...]:
    """WordNet's names of a set's classes ("n01440764"), in the order of ImageNet-1K's logits."""
    lines = Path(__file__).with_name(f"{name}.txt").read_text(encoding="ascii").splitlines()
    return tuple(line for line in lines if not line.startswith("#"))


@cache
def indices(name: ClassList) -> tuple[int, ...]:
    """The logits (0 to 999) of a set's classes, in ascending order."""
    place = {synset: index for index, synset in enumerate(synsets("imagenet_1k"))}
    return tuple(place[synset] for synset in synsets(name))


SetName = Literal["val", "a", "r", "sketch", "v2", "c"]


@dataclass(frozen=True)
class Labels:
    """How the folders of a set become targets.

    Attributes:
        columns: the logits that take part, (n,) int64 in ascending order; None for all of them.
        targets: for every folder, in the data's order, its place among the columns; (folders,) int64.
    """

    columns: Tensor | None
    targets: Tensor


@dataclass(frozen=True)
class ImageSet:
    """A published set of images that classifiers of ImageNet-1K are tested on.

    Attributes:
        title: what people call it.
        folders: names under which it lies beside the others; the first is that of its public archive.
        images: how many the published set has.
        classes: those it has; where they are fewer than 1,000, all other logits are left out.
        numbered: folders are named by the number of their class, 0 to 999, instead of its synset.
    """

    title: str
    folders: tuple[str, ...]
    images: int
    classes: ClassList = "imagenet_1k"
    numbered: bool = False

    def folder(self, data: Path) -> Path:
        """Where the set lies in ``data``.

        Raises:
            FovealError: it does not.
        """
        found = next((data / name for name in self.folders if (data / name).is_dir()), None)
        if found is None:
            raise FovealError(
                f"{self.title} is not in {data}: unpack it there, or link it, as {data / self.folders[0]}."
            )
        return found

    def labels(self, names: Sequence[str], folder: Path) -> Labels:
        """What the class folders called ``names`` stand for.

        Raises:
            FovealError: one of them is no class of this set.
        """
        columns = indices(self.classes)
        known = [str(index) for index in columns] if self.numbered else synsets(self.classes)
        place = {name: position for position, name in enumerate(known)}
        stranger = next((name for name in names if name not in place), None)
        if stranger is not None:
            raise FovealError(
                f"{folder} has a class folder {stranger!r}, and {self.title} has {len(known)} of names such as "
                f"{known[0]!r}, not this one: pass the folder as its archive unpacks."
            )
        targets = torch.tensor([place[name] for name in names])
        return Labels(None if self.classes == "imagenet_1k" else torch.tensor(columns), targets)


SETS: dict[SetName, ImageSet] = {
    "a": ImageSet("ImageNet-A", ("imagenet-a",), 7_500, "imagenet_a"),
    "r": ImageSet("ImageNet-R", ("imagenet-r",), 30_000, "imagenet_r"),
    "sketch": ImageSet("ImageNet-Sketch", ("sketch", "imagenet-sketch"), 50_889),
    "v2": ImageSet("ImageNet-V2", ("imagenetv2-matched-frequency-format-val", "imagenet-v2"), 10_000, numbered=True),
    "c": ImageSet("ImageNet-C", ("imagenet-c",), 3_750_000),
}
VAL_IMAGES = 50_000


def set_title(name: SetName) -> str:
    """What people call a set."""
    return "validation" if name == "val" else SETS[name].title


def check_knows_imagenet(classifier: Classifier, title: str) -> None:
    """Refuse a classifier whose logits are not ImageNet-1K's classes in their order."""
    known = synsets("imagenet_1k")
    right = tuple(classifier.classes) == known if classifier.trained_here else len(classifier.classes) == len(known)
    if not right:
        raise FovealError(
            f"{title} is for classifiers of ImageNet's 1,000 classes, and {classifier.name} here knows "
            f"{len(classifier.classes)} of its own: pass other weights, or leave this set out."
        )
