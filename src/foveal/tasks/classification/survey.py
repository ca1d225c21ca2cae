"""Evaluate a classifier on several sets, sizes and modes, with the authors' figure beside ours."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean
from typing import Any

from foveal.tasks.classification.cell import Cell, Int8
from foveal.tasks.classification.data import Images, open_split
from foveal.tasks.classification.data.class_folders import check_class_folders
from foveal.tasks.classification.evaluate import EvaluationSettings, Score, check_split, finished_score
from foveal.tasks.classification.imagenet.corruptions import CorruptionErrors, corruption_folders, uncropped
from foveal.tasks.classification.imagenet.sets import (
    SETS,
    VAL_IMAGES,
    ImageSet,
    Labels,
    SetName,
    check_knows_imagenet,
    published,
)
from foveal.tasks.classification.int8 import CalibrationImages, quantized
from foveal.tasks.classification.modes import MODE_TITLES, in_mode, linear_pool
from foveal.tasks.classification.names import Mode
from foveal.tasks.classification.network import Classifier
from foveal.tasks.finished import Finished
from foveal.tasks.listing import walk_images
from foveal.tasks.total import Progress, Total
from foveal.types import Size

OnBatch = Callable[[int, int], None]


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


def survey(
    classifier: Classifier,
    grid: EvaluationGrid,
    settings: EvaluationSettings,
    progress: Progress,
    sets: dict[SetName, ImageSet] = SETS,
    finished: Finished | None = None,
) -> list[Cell]:
    """Evaluate the grid, size by size, mode by mode, set by set.

    Args:
        progress: shows how far the whole grid is.
        sets: the location and content of the sets.
        finished: parts that are kept, so that an evaluation that was stopped goes on; None keeps nothing.

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
    work = _Work(grid, classifier, opened, parts)
    kept = Finished() if finished is None else finished
    with progress() as advance:
        total = Total(advance, work.whole, work.cells)
        return list(_Survey(classifier, grid, settings, total, work, sets, opened, parts, calibration, kept).cells())


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
class _Work:
    """The work of evaluations in pixels, which their time is about in proportion to."""

    grid: EvaluationGrid
    classifier: Classifier
    opened: dict[SetName, tuple[Images, Labels | None]]
    parts: dict[tuple[str, int], Path]

    @cached_property
    def images(self) -> dict[SetName, int]:
        """Number of images of each set; all folders of ImageNet-C have as many."""
        counts = {name: len(images) for name, (images, _) in self.opened.items()}
        if self.parts:
            counts["c"] = len(self.parts) * len(walk_images(next(iter(self.parts.values()))).paths)
        return counts

    def of(self, name: SetName, size: Size) -> float:
        """Return the work of a set at one size."""
        return max(self.images[name], 1) * size[0] * size[1]

    @property
    def whole(self) -> float:
        sizes = [size or self.classifier.fit.size for size in self.grid.sizes]
        return len(self.grid.modes) * sum(self.of(name, size) for name in self.grid.sets for size in sizes)

    @property
    def cells(self) -> int:
        return len(self.grid.sets) * len(self.grid.modes) * len(self.grid.sizes)


@dataclass(frozen=True)
class _Survey:
    classifier: Classifier
    grid: EvaluationGrid
    settings: EvaluationSettings
    total: Total
    work: _Work
    sets: dict[SetName, ImageSet]
    opened: dict[SetName, tuple[Images, Labels | None]]
    parts: dict[tuple[str, int], Path]
    """The folders of ImageNet-C."""
    calibration: CalibrationImages | None
    """For int8."""
    finished: Finished

    def cells(self) -> Iterator[Cell]:
        for size in self.grid.sizes:
            for mode in self.grid.modes:
                classifier = in_mode(self.classifier, mode, size, self.grid.pool_size)
                int8 = None
                if self.calibration is not None:
                    self.total.advance("Calibrating", self.total.done, self.total.whole)
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
        title = self.sets[name].title if name != "val" else split
        made = partial(Cell, name, mode, size, pool_size, split=split)
        work = self.work.of(name, size)
        on_batch = self.total.part(f"{title}, {size[0]} px{f', {MODE_TITLES[mode]}' if mode else ''}", work)
        part = {"set": name, "split": split, "size": size, "mode": mode, "pool_size": pool_size}
        if name == "c":
            cell = self.corruptions(made, classifier, on_batch, part)
        else:
            cell = self.plain(made, classifier, name, on_batch, part)
        self.total.end(work)
        return replace(cell, paper=self.paper(name, mode, size, pool_size, cell.score.images))

    def plain(
        self,
        made: Callable[..., Cell],
        classifier: Classifier,
        name: SetName,
        on_batch: OnBatch,
        part: dict[str, Any],
    ) -> Cell:
        images, labels = self.opened[name]
        images.transform = classifier.fit.transform()
        found = finished_score(self.finished, part, classifier, images, labels, self.settings, on_batch)
        classes = images.classes if labels is None else labels.names
        return made(found, classes, read=images.set_name, notices=tuple(images.notices), source=images)

    def corruptions(
        self, made: Callable[..., Cell], classifier: Classifier, on_batch: OnBatch, part: dict[str, Any]
    ) -> Cell:
        transform, known = uncropped(classifier.fit).transform(), self.sets["c"]
        scores: dict[str, list[Score]] = {}
        notices: list[str] = []
        for index, ((corruption, severity), folder) in enumerate(self.parts.items()):
            images, labels = _open_set(folder, known)
            images.transform = transform
            notices += images.notices

            def report(done: int, total: int, before: int = index) -> None:
                on_batch(before * total + done, len(self.parts) * total)  # all parts have as many images

            one = {**part, "corruption": corruption, "severity": severity}
            found = finished_score(self.finished, one, classifier, images, labels, self.settings, report, answers=False)
            scores.setdefault(corruption, []).append(found)
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
