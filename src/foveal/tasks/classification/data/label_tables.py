"""Images with any number of labels: ``DIR/train.csv`` and ``DIR/val.csv`` with the columns ``file,labels``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveal.errors import FovealError
from foveal.tasks.classification.data.images import FileImages, Images
from foveal.tasks.classification.data.label_rows import LabelRow, is_label_table, read_label_rows
from foveal.tasks.held_out import HeldOut, draw
from foveal.tasks.listing import find_entry, split_names
from foveal.wording import many


class MultiLabelImages(FileImages):
    """Images with any number of labels; item i is ``(transform(image), target)``, with 1 for a label and 0 otherwise in
    the target, (K,) float32.

    Attributes:
        labels: classes of each image; ``targets`` is empty.
    """

    multi_label = True

    def __init__(
        self,
        classes: list[str],
        names: list[str],
        labels: list[tuple[int, ...]],
        transform: Callable | None = None,
    ) -> None:
        super().__init__(classes, names, [], transform)
        self.labels = labels

    def __getitem__(self, index: int) -> tuple[Any, Tensor]:  # type: ignore[override]
        target = torch.zeros(len(self.classes))
        target[list(self.labels[index])] = 1
        return self.transformed(self.load(index)), target

    def present(self) -> set[int]:
        return {label for found in self.labels for label in found}

    def answers(self) -> Sequence[Any]:
        return self.labels

    def sort_classes(self, classes: list[str]) -> None:
        before = self.classes
        super().sort_classes(classes)
        place = {name: number for number, name in enumerate(classes)}
        self.labels = [tuple(place[before[label]] for label in found) for found in self.labels]


class LabelTables:
    """The tables of a folder. Without one for validation, images are held out of that for training.

    Args:
        held_out: the images that are for validation, for a folder without such a table.
    """

    def __init__(self, root: Path, held_out: HeldOut | None = None) -> None:
        self.root = root
        self.held_out = held_out if self.is_unsplit else None

    @property
    def is_unsplit(self) -> bool:
        """Whether there is no table for validation."""
        return not _table(self.root, "val").is_file()

    def drawn(self, fraction: float, seed: int) -> LabelTables:
        """Return the same folder with validation images held out: a fraction of those with each label, by the rarest
        one of an image, and of those without any.

        Raises:
            FovealError: it has validation images already, or none can be drawn.
        """
        if not self.is_unsplit:
            raise FovealError(
                f"{self.root} has validation images in {_table(self.root, 'val').name}: leave --val-fraction out."
            )
        rows = read_label_rows(_table(self.root, "train"))
        counts = Counter(label for row in rows for label in row.labels)
        groups = [min(row.labels, key=lambda label: (counts[label], label), default="") for row in rows]
        return LabelTables(self.root, draw([row.name for row in rows], groups, fraction, seed))

    def no_validation(self) -> FovealError:
        """Return the error for a folder without validation images if none should be drawn."""
        table = _table(self.root, "val")
        return FovealError(
            f"{self.root} has no {table.name}: write one, or pass --val-fraction 0.2 to draw from train."
        )

    def place(self, split: str) -> str:
        """Return the location of the split, for error messages."""
        if self._holds_out(split):
            return f"{_table(self.root, 'train')} (held out)"
        return str(_table(self.root, split))

    def set_name(self, split: str) -> str:
        """Return the name of the split as results give it."""
        if self.held_out is not None and split in split_names("val"):
            return self.held_out.set_name
        if self.held_out is not None and split in split_names("train"):
            return f"all but {self.held_out.set_name}"
        return _table(self.root, split).stem

    def check(self, split: str) -> None:
        """Raise FovealError if there is no such split."""
        if not self._holds_out(split) and not _table(self.root, split).is_file():
            raise FovealError(f"{self.root} has no {_table(self.root, split).name}: write one, with file,labels.")

    def open(self, split: str, classes: list[str] | None = None) -> Images:
        """Open the images of a split.

        Args:
            classes: those of training; None for the labels of this split, in alphabetical order.

        Raises:
            FovealError: the table is broken, or has a label that training lacks.
        """
        self.check(split)
        table = _table(self.root, "train" if self._holds_out(split) else split)
        rows = read_label_rows(table)
        names = sorted({label for row in rows for label in row.labels}) if classes is None else classes
        images, trains = _images(rows, table, names), split in split_names("train")
        if self.held_out is not None and (trains or self._holds_out(split)):
            images = self._part(images, rows, table, self._holds_out(split))
        if trains:
            images.notices.insert(0, f"{table} is read: an image may have several of its {many(len(names), 'label')}.")
        return images

    def _holds_out(self, split: str) -> bool:
        """Return whether a split is made of images that were held out."""
        return self.held_out is not None and split in split_names("val")

    def _part(
        self, whole: MultiLabelImages, rows: Sequence[LabelRow], table: Path, validates: bool
    ) -> MultiLabelImages:
        assert self.held_out is not None
        held = set(self.held_out.names)
        taken = [place for place, row in enumerate(rows) if (row.name in held) == validates]
        part = MultiLabelImages(whole.classes, [whole.names[i] for i in taken], [whole.labels[i] for i in taken])
        if validates:
            part.held_out = self.held_out
            missing = self.held_out.missing_notice((row.name for row in rows), table)
            part.notices += [missing] if missing else []
            part.notices.append(
                f"{len(taken):,} of the {len(rows):,} images of {table} are held out for validation "
                f"(--val-fraction {self.held_out.fraction:g} --seed {self.held_out.seed})."
            )
        return part


def has_label_tables(root: Path) -> bool:
    """Return whether a folder has a table of labels for training or validation."""
    return any(is_label_table(_table(root, split)) for split in ("train", "val"))


def _table(root: Path, split: str) -> Path:
    """Return the table of a split by any of its names, or where it would be under its usual one."""
    found = [find_entry(root, f"{name}.csv") for name in split_names(split)]
    return next((path for path in found if path.is_file()), found[0])


def _images(rows: Sequence[LabelRow], table: Path, classes: list[str]) -> MultiLabelImages:
    place = {name: number for number, name in enumerate(classes)}
    labels = []
    for row in rows:
        unknown = next((label for label in row.labels if label not in place), None)
        if unknown is not None:
            raise FovealError(
                f"{table}, line {row.line}: training has no label {unknown!r}: leave it out, or add training images."
            )
        labels.append(tuple(place[label] for label in row.labels))
    if not any(labels):
        raise FovealError(f"{table} has no label: write them after the file, separated by spaces.")
    images = MultiLabelImages(classes, [row.path for row in rows], labels)
    bare = sum(not found for found in labels)
    if bare:
        verb = "has" if bare == 1 else "have"
        images.notices.append(f"{bare:,} of the {len(rows):,} images of {table} {verb} no label.")
    return images
