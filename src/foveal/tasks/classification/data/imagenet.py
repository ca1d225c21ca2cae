"""ImageNet-1K as unpacked from its archives: class folders for training, and a flat ``val`` with separate labels.

The images are in ``DIR/train/<wnid>/`` and ``DIR/val/``, or in Kaggle's ``DIR/ILSVRC/Data/CLS-LOC/``. The ground truth
of ``val`` is Kaggle's ``LOC_val_solution.csv``, or ``ILSVRC2012_validation_ground_truth.txt`` of the development kit,
with class numbers defined in its ``meta.mat``.
"""

import csv
import re
from collections.abc import Iterable
from pathlib import Path

from foveal.errors import FovealError
from foveal.image_files import read_text
from foveal.tasks.classification.data.class_folders import (
    existing_split,
    find_split_folder,
    has_class_folders,
    has_images,
    open_class_folders,
    split_folder,
)
from foveal.tasks.classification.data.images import FileImages, Images
from foveal.tasks.listing import left_out, list_images, subfolders

KAGGLE = Path("ILSVRC", "Data", "CLS-LOC")
CSV, TRUTH, META = "LOC_val_solution.csv", "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
DEVKIT = ("ILSVRC2012_devkit_t12/data", "ILSVRC2012_devkit_t12", "devkit/data", "data", "")


def is_imagenet(root: Path) -> bool:
    """Return whether ``root`` has Kaggle's folders, or a ``val`` with images but without class folders.

    If the ground truth of these is not there, the folders for training, if any, must be named by WNIDs.
    """
    if (root / KAGGLE).is_dir():
        return True
    val, train = find_split_folder(root, "val"), find_split_folder(root, "train")
    if val != root / "val" or has_class_folders(val) or not has_images(val):
        return False
    named_so = train is None or all(re.fullmatch(r"n\d+", name) for name in subfolders(train))
    return named_so or ImageNet(root).find_ground_truth() is not None


class ImageNet:
    """Splits of a folder recognised by ``is_imagenet``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = root / KAGGLE if (root / KAGGLE).is_dir() else root

    def place(self, split: str) -> str:
        return str(split_folder(self.base, split))

    def set_name(self, split: str) -> str:
        return split_folder(self.base, split).name

    def check(self, split: str) -> None:
        existing_split(self.base, split)
        if split == "val" and self._is_flat(split):
            self._ground_truth_file()

    def open(self, split: str, classes: list[str] | None = None) -> Images:
        folder = existing_split(self.base, split)
        if not self._is_flat(split):
            return open_class_folders(folder, complete=split == "train")
        if split != "val":
            raise FovealError(f"{folder} has no class folders: unpack the archive of each class into {folder}/<wnid>/.")
        return self._open_flat(folder, classes or self._train_classes())

    def _is_flat(self, split: str) -> bool:
        return not has_class_folders(self.base / split)

    def _train_classes(self) -> list[str] | None:
        train = self.base / "train"
        return subfolders(train) if train.is_dir() else None

    def _open_flat(self, folder: Path, classes: list[str] | None) -> FileImages:
        """Open all images of the folder; if ``classes`` is None, they are those of the ground truth."""
        source = self._ground_truth_file()
        listing = list_images(folder)
        files = listing.images
        labels = _from_csv(source) if source.name == CSV else _from_devkit(source, files)
        _check_complete(folder, files, source, labels)
        classes = classes or sorted(set(labels.values()))
        index = {name: number for number, name in enumerate(classes)}
        unknown = next((label for label in labels.values() if label not in index), None)
        if unknown is not None:
            raise FovealError(
                f"{source} names the class {unknown!r}, which {self.base / 'train'} does not have: unpack its training "
                "images, or use the matching ground truth."
            )
        images = FileImages(classes, [str(file) for file in files], [index[labels[file.stem]] for file in files])
        images.notices = left_out(listing.others, folder)
        return images

    def find_ground_truth(self) -> Path | None:
        """Return the file of the classes of ``val``, if there is one."""
        tops = [self.root, self.base, self.base / "val", self.root.parent]
        if self.root.parts[-3:] == KAGGLE.parts:
            tops.append(self.root.parents[2])
        found = (top / name for top in tops for name in (Path(CSV), *(Path(kit, TRUTH) for kit in DEVKIT)))
        return next((file for file in found if file.is_file()), None)

    def _ground_truth_file(self) -> Path:
        file = self.find_ground_truth()
        if file is None:
            raise FovealError(
                f"{self.base / 'val'} has no class folders, and the ground truth of its images was not found: put "
                f"{CSV} (Kaggle) or the folder ILSVRC2012_devkit_t12 into {self.root}, or the images into class "
                "folders."
            )
        return file


def _from_csv(path: Path) -> dict[str, str]:
    """Read WNIDs by file stem from Kaggle's columns ImageId and PredictionString ("wnid x y x y ...")."""
    labels = {}
    for number, row in enumerate(csv.reader(read_text(path).splitlines()), start=1):
        if row[:1] == ["ImageId"] or not row:
            continue
        if len(row) < 2 or not row[1].split():
            raise FovealError(f"{path} has no class in line {number}: download the file from Kaggle again.")
        labels[row[0]] = row[1].split()[0]
    return labels


def _from_devkit(path: Path, files: list[Path]) -> dict[str, str]:
    """Read WNIDs by file stem; the n-th line is the class number of the n-th image in alphabetical order."""
    lines = read_text(path).split()
    if len(lines) != len(files):
        raise FovealError(
            f"{path} has {len(lines)} labels for {len(files)} images: unpack ILSVRC2012_img_val.tar again."
        )
    wnids = _wnids(_beside(path))
    for number, line in enumerate(lines, start=1):
        if not line.isdecimal() or int(line) not in wnids:
            raise FovealError(
                f"{path} has the label {line!r} in line {number}, which is not one of the {len(wnids)} classes of "
                f"{META}: use both files of the same development kit."
            )
    return {file.stem: wnids[int(line)] for file, line in zip(files, lines, strict=True)}


def _beside(truth: Path) -> Path:
    meta = truth.parent / META
    if not meta.is_file():
        raise FovealError(f"{meta}, which defines the labels of {truth.name}, is missing: put the devkit's file there.")
    return meta


def _wnids(path: Path) -> dict[int, str]:
    """Read WNIDs by class number (from 1) of the synsets without children, which are those of the images."""
    try:
        from scipy.io import loadmat
    except ModuleNotFoundError as error:
        raise FovealError(
            f"Reading {path} needs SciPy: install it with `pip install 'foveal[train]'`, or use {CSV} instead."
        ) from error
    try:
        synsets: Iterable = loadmat(path)["synsets"].ravel()
        return {
            int(synset["ILSVRC2012_ID"].item()): str(synset["WNID"].item())
            for synset in synsets
            if synset["num_children"].item() == 0
        }
    except (OSError, ValueError, KeyError, TypeError, IndexError, NotImplementedError) as error:
        raise FovealError(f"{path} is not the devkit's table of classes: unpack it from the archive again.") from error


def _check_complete(folder: Path, files: list[Path], source: Path, labels: dict[str, str]) -> None:
    """Check that images and labels correspond one to one."""
    names = {file.stem for file in files}
    unlabelled = next((file for file in files if file.stem not in labels), None)
    if unlabelled is not None:
        raise FovealError(f"{unlabelled} has no label in {source}: remove the image, or use the complete ground truth.")
    missing = next((name for name in labels if name not in names), None)
    if missing is not None:
        raise FovealError(
            f"{folder} lacks the image {missing} that {source} labels ({len(names)} images, {len(labels)} labels): "
            "unpack ILSVRC2012_img_val.tar again."
        )
