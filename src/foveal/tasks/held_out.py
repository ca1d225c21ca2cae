"""Validation images drawn from a folder that has no split (``--val-fraction``): by class, and the same every time.

The images that were drawn are part of a checkpoint's metadata and of the run's folder, so that evaluation uses them
whatever is added to the folder later. Those that were removed are counted in a notice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foveal.errors import FovealError
from foveal.training.sampling import mix

KEY = "held_out"  # in the metadata of a checkpoint


@dataclass(frozen=True)
class HeldOut:
    """The images of a folder that are for validation.

    Attributes:
        fraction: the share that was asked for, between 0 and 1.
        seed: of the draw.
        names: the files, relative to the folder that they are in, in alphabetical order.
    """

    fraction: float
    seed: int
    names: tuple[str, ...]

    @property
    def set_name(self) -> str:
        """What results call this set, where those of a folder have the folder's name."""
        return f"{100 * self.fraction:g} % drawn for validation with seed {self.seed}"

    def metadata(self) -> dict[str, Any]:
        """Return what a checkpoint says of them, in plain types."""
        return {KEY: {**asdict(self), "names": list(self.names)}}

    @classmethod
    def of(cls, metadata: Mapping[str, Any] | None) -> HeldOut | None:
        """Return the images that the metadata of a checkpoint name, or None if its images had a split."""
        known = (metadata or {}).get(KEY)
        return None if known is None else cls(known["fraction"], known["seed"], tuple(known["names"]))

    def missing_notice(self, found: Iterable[str], place: str | Path) -> str | None:
        """Return a sentence about the images that are not there any more, or None if all of them are.

        Evaluation goes on with the others.

        Args:
            found: names of images that are there, in the form of ``names``; those of other images do not matter.
            place: what should have them: a folder, or a file of annotations.

        Raises:
            FovealError: none of them is there.
        """
        missing = sorted({*self.names}.difference(found))
        if not missing:
            return None
        if len(missing) == len(self.names):
            raise FovealError(
                f"{place} has none of the {_images(len(missing))} that training held out for validation, such as "
                f"{missing[0]}: pass the --data that the network was trained on."
            )
        verb = "is" if len(missing) == 1 else "are"
        return (
            f"{len(missing):,} of the {_images(len(self.names))} that training held out for validation {verb} missing "
            f"from {place}, the first of them {missing[0]}: the figures are over the others."
        )


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"


def draw(names: Sequence[str], groups: Sequence[Hashable], fraction: float, seed: int) -> HeldOut:
    """Draw validation images: ``fraction`` of each group, rounded, and at least one where a group has two or more.

    The draw depends on the names and the seed alone: not on the order of the files, the machine or the library.

    Args:
        names: N different names of images.
        groups: N keys, such as the class of each image.
        fraction: between 0 and 1.
        seed: another seed draws others.

    Raises:
        FovealError: no image is left for validation, because every group has at most one.
    """
    members: dict[Hashable, list[str]] = defaultdict(list)
    for name, group in zip(names, groups, strict=True):
        members[group].append(name)
    drawn: list[str] = []
    for found in members.values():
        count = min(max(round(fraction * len(found)), 1), len(found) - 1)
        drawn += sorted(found, key=lambda name: (mix(seed, "held out", name), name))[:count]
    if len(names) == 1:
        raise FovealError("There is only one image, and validation needs others than training: add images.")
    if not drawn:
        raise FovealError("No class has two images, of which one could be for validation: add images.")
    return HeldOut(fraction, seed, tuple(sorted(drawn)))
