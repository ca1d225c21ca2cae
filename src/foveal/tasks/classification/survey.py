"""Evaluate a classifier on several sets, sizes and modes, with the authors' figure beside ours."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from foveal.models.quantized import QuantizationReport
from foveal.tasks.classification.data import Images, open_split
from foveal.tasks.classification.data.class_folders import check_class_folders
from foveal.tasks.classification.evaluate import EvaluationSettings, Score, check_split, score
from foveal.tasks.classification.imagenet.corruptions import CorruptionErrors, corruption_folders, uncropped
from foveal.tasks.classification.imagenet.sets import (
    SETS,
    VAL_IMAGES,
    ImageSet,
    Labels,
    SetName,
    check_knows_imagenet,
    published,
    set_title,
)
from foveal.tasks.classification.int8 import CalibrationImages, quantized
from foveal.tasks.classification.modes import in_mode, linear_pool
from foveal.tasks.classification.names import Mode
from foveal.tasks.classification.network import Classifier
from foveal.types import Size

OnBatch = Callable[[int, int], None]
Progress = Callable[[str], AbstractContextManager[OnBatch]]


@dataclass(frozen=True)
class EvaluationGrid:
    """Every set in every mode at every size.

    Attributes:
        data: the folder that holds the sets.
        split: the folder in ``data`` that "val" means.
        modes, sizes: None is the classifier's own.
        pool_size: pool size of linear mode; None for the paper's.
        weights: the released weights ("transnext_tiny.in1k") whose published figures are shown beside ours, if any.
        always: show them also if the set is incomplete.
    """

    data: Path
    sets: tuple[SetName, ...] = ("val",)
    split: str = "val"
    modes: tuple[Mode | None, ...] = (None,)
    sizes: tuple[Size | None, ...] = (None,)
    pool_size: int | None = None
    weights: str | None = None
    always: bool = False


@dataclass(frozen=True)
class Int8:
    """How the network of a cell was quantized.

    Attributes:
        report: what runs in int8.
        calibration: the images that it was calibrated on.
    """

    report: QuantizationReport
    calibration: CalibrationImages

    def document(self) -> dict[str, Any]:
        """Return the summary in plain types."""
        report = self.report
        return {
            "layers": report.in_int8,
            "of": len(report.layers),
            "share": report.share,
            "cosine": report.cosine,
            "calibration_images": report.images,
            "calibration_data": self.calibration.place,
        }


@dataclass(frozen=True)
class Cell:
    """One set in one mode at one size.

    Attributes:
        classes: names of the evaluated classes.
        paper: the published top-1, or mCE of ImageNet-C, in percent, if there is one to compare with.
        int8: how the network was quantized, if it was.
        split: the split that was asked for as "val".
        read: the name of the set that was read for it, such as "valid".
        notices: sentences about what was found beside the images and left out.
    """

    set: SetName
    mode: Mode | None
    size: Size
    pool_size: int | None
    score: Score
    classes: Sequence[str]
    paper: float | None = None
    corruptions: CorruptionErrors | None = None
    int8: Int8 | None = None
    split: str = "val"
    read: str = "val"
    notices: tuple[str, ...] = ()

    @property
    def is_val(self) -> bool:
        """Whether the validation set was asked for."""
        return self.set == self.split == "val"

    @property
    def title(self) -> str:
        """The name of the set that was read, for people."""
        return self.split if self.set == "val" and not self.is_val else set_title(self.set)

    @property
    def uncounted(self) -> list[str]:
        """The classes that have no image."""
        return [name for name, count in zip(self.classes, self.score.per_class, strict=True) if not count]

    def document(self) -> dict[str, Any]:
        """Return the result in plain types."""
        found = self.score
        result = {
            "set": self.read if self.set == "val" else self.set,
            "mode": self.mode,
            "size": list(self.size),
            "pool_size": self.pool_size,
            "images": found.images,
            **found.accuracies(),
            "loss": found.loss,
            "images_per_second": found.images_per_second,
            "classes": len(self.classes),
            "scored_classes": len(self.classes) - len(self.uncounted),
            "classes_without_examples": self.uncounted,
            "classes_without_images": self.uncounted,
            "broken": found.broken,
            "broken_names": list(found.broken_names),
            "paper": self.paper,
        }
        return {
            **result,
            **({} if self.corruptions is None else _document(self.corruptions)),
            **({} if self.int8 is None else {"int8": self.int8.document()}),
        }


def survey(
    classifier: Classifier,
    grid: EvaluationGrid,
    settings: EvaluationSettings,
    progress: Progress,
    sets: dict[SetName, ImageSet] = SETS,
) -> list[Cell]:
    """Evaluate the grid, size by size, mode by mode, set by set.

    Args:
        progress: from the title of an evaluation to a context that yields ``on_batch(done, total)``.
        sets: the location and content of the sets.

    Raises:
        FovealError: a set is missing or broken, or the classifier does not know its classes, this mode or this size.
    """
    plain: list[SetName] = [name for name in grid.sets if name != "c"]
    opened = {name: _open(classifier, grid, name, sets) for name in plain}
    parts = _corruptions(classifier, grid, sets["c"]) if "c" in grid.sets else {}
    calibration = None
    if settings.precision == "int8":
        evaluated = next(iter(parts.values())) if grid.sets[0] == "c" else _folder(grid, grid.sets[0], sets)
        calibration = CalibrationImages.find(
            grid.data, evaluated, settings.calibration_images, settings.broken, classifier.held_out
        )
    return list(_Survey(classifier, grid, settings, progress, sets, opened, parts, calibration).cells())


def _folder(grid: EvaluationGrid, name: SetName, sets: dict[SetName, ImageSet]) -> Path:
    return grid.data / grid.split if name == "val" else sets[name].folder(grid.data)


def _open(
    classifier: Classifier, grid: EvaluationGrid, name: SetName, sets: dict[SetName, ImageSet]
) -> tuple[Images, Labels | None]:
    """Open a set that is one folder; return its images and the meaning of its class folders."""
    if name == "val":
        images = open_split(grid.data, grid.split, held_out=classifier.held_out)
        check_split(classifier, images, grid.data / grid.split)
        return images, None
    check_knows_imagenet(classifier, sets[name].title)
    return _open_set(_folder(grid, name, sets), sets[name])


def _open_set(folder: Path, known: ImageSet) -> tuple[Images, Labels]:
    images = open_split(folder.parent, folder.name)
    images.upright = False  # published accuracies are of the images as stored
    return images, known.labels(images.classes, folder)


def _corruptions(classifier: Classifier, grid: EvaluationGrid, found: ImageSet) -> dict[tuple[str, int], Path]:
    """Return the folders of ImageNet-C after checking their classes; its millions of images are listed later."""
    check_knows_imagenet(classifier, found.title)
    parts = corruption_folders(found.folder(grid.data))
    for folder in parts.values():
        found.labels(check_class_folders(folder), folder)
    return parts


@dataclass(frozen=True)
class _Survey:
    classifier: Classifier
    grid: EvaluationGrid
    settings: EvaluationSettings
    progress: Progress
    sets: dict[SetName, ImageSet]
    opened: dict[SetName, tuple[Images, Labels | None]]
    parts: dict[tuple[str, int], Path]
    """The folders of ImageNet-C."""
    calibration: CalibrationImages | None
    """For int8."""

    def cells(self) -> Iterator[Cell]:
        for size in self.grid.sizes:
            for mode in self.grid.modes:
                classifier = in_mode(self.classifier, mode, size, self.grid.pool_size)
                int8 = None
                if self.calibration is not None:
                    with self.progress("Calibrating"):
                        classifier, report = quantized(classifier, self.calibration)
                    int8 = Int8(report, self.calibration)
                for name in self.grid.sets:
                    yield replace(self.cell(classifier, mode, name), int8=int8)

    def cell(self, classifier: Classifier, mode: Mode | None, name: SetName) -> Cell:
        size = classifier.fit.size
        pool_size = self.grid.pool_size
        if mode == "linear" and pool_size is None:
            pool_size = linear_pool(classifier)
        pool_size = pool_size if mode in (None, "linear") else None
        split = self.grid.split
        title = self.sets[name].title if name != "val" else "the validation set" if split == "val" else split
        made = partial(Cell, name, mode, size, pool_size, split=split)
        with self.progress(f"{title}, {size[0]} pixels{f', {mode}' if mode else ''}") as on_batch:
            if name == "c":
                cell = self.corruptions(made, classifier, on_batch)
            else:
                cell = self.plain(made, classifier, name, on_batch)
        return replace(cell, paper=self.paper(name, mode, size, pool_size, cell.score.images))

    def plain(self, made: Callable[..., Cell], classifier: Classifier, name: SetName, on_batch: OnBatch) -> Cell:
        images, labels = self.opened[name]
        images.transform = classifier.fit.transform()
        found = score(classifier, images, labels, self.settings, on_batch)
        classes = images.classes if labels is None else labels.names
        return made(found, classes, read=images.set_name, notices=tuple(images.notices))

    def corruptions(self, made: Callable[..., Cell], classifier: Classifier, on_batch: OnBatch) -> Cell:
        transform, known = uncropped(classifier.fit).transform(), self.sets["c"]
        scores: dict[str, list[Score]] = {}
        notices: list[str] = []
        for index, ((corruption, _), folder) in enumerate(self.parts.items()):
            images, labels = _open_set(folder, known)
            images.transform = transform
            notices += images.notices

            def report(done: int, total: int, before: int = index) -> None:
                on_batch(before * total + done, len(self.parts) * total)  # all parts have as many images

            scores.setdefault(corruption, []).append(score(classifier, images, labels, self.settings, report))
        errors = {name: tuple(100.0 - one.top1 for one in found) for name, found in scores.items()}
        whole = _together([one for found in scores.values() for one in found])
        return made(whole, known.names, corruptions=CorruptionErrors(errors), notices=tuple(notices))

    def paper(self, name: SetName, mode: Mode | None, size: Size, pool_size: int | None, images: int) -> float | None:
        weights, expected = self.grid.weights, VAL_IMAGES if name == "val" else self.sets[name].images
        if weights is None or not (self.grid.always or images == expected):
            return None
        if pool_size is not None:
            if pool_size != linear_pool(self.classifier):
                return None
            mode = "linear"
        return published(weights, name, mode, size)


def _together(scores: list[Score]) -> Score:
    """Return the mean over several parts of equal weight."""
    return Score(
        images=sum(one.images for one in scores),
        top1=fmean(one.top1 for one in scores),
        top_k=fmean(one.top_k for one in scores),
        loss=fmean(one.loss for one in scores),
        images_per_second=sum(one.images for one in scores) / sum(one.images / one.images_per_second for one in scores),
        per_class=tuple(map(sum, zip(*(one.per_class for one in scores), strict=True))),
        broken=sum(one.broken for one in scores),
        broken_names=tuple(name for one in scores for name in one.broken_names),
    )


def _document(found: CorruptionErrors) -> dict[str, Any]:
    by_name = {name: {"errors": list(errors), "ce": found.relative[name]} for name, errors in found.errors.items()}
    return {"mce": found.mce, "mean_error": found.mean_error, "corruptions": by_name}
