"""``foveal evaluate`` with classifiers: top-1, top-k and mCE."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from foveal.cli.console import columns, print_json, say, show_notices
from foveal.cli.kept import going_on, kept_parts, notices_of
from foveal.cli.multi_label import evaluate_labels, refuse_single_label
from foveal.cli.options import EvaluateOptions
from foveal.cli.robustness import evaluate_corrupted
from foveal.cli.total_progress import total_progress
from foveal.models.weights_file import WeightsFile
from foveal.ops.int8 import why_slow
from foveal.report.evaluation_classification import write_results
from foveal.tasks.classification.cell import Cell
from foveal.tasks.classification.corruption_library import corruption_library
from foveal.tasks.classification.data import source_of
from foveal.tasks.classification.data.classes import named
from foveal.tasks.classification.evaluate import EvaluationSettings
from foveal.tasks.classification.imagenet.corruptions import SEVERITIES, CorruptionErrors
from foveal.tasks.classification.imagenet.sets import SETS, SIZES, VAL_IMAGES
from foveal.tasks.classification.modes import MODE_TITLES, has_modes
from foveal.tasks.classification.names import MODES
from foveal.tasks.classification.network import Classifier, fetch, released_name, restore
from foveal.tasks.classification.recipe import Recipe
from foveal.tasks.classification.survey import EvaluationGrid, survey
from foveal.tasks.classification.task import ClassificationTask
from foveal.tasks.finished import Finished
from foveal.training.processes import leave_processes, start_processes
from foveal.wording import digits, many, percent

NOTHING_KEPT = "Nothing is kept if this is stopped: pass --out DIR to go on with the same command."


def evaluate(recipe: Recipe, weights: WeightsFile | None, options: EvaluateOptions) -> None:
    """Evaluate the classifier in a file, or the released one, and print the figures."""
    out = options.out
    settings = EvaluationSettings(
        batch_size=options.batch_size or 64,
        workers=options.workers,
        precision=options.precision,
        folded=options.optimize,
        broken=options.broken,
        calibration_images=options.calibration_images or 128,
    )
    library = corruption_library() if options.corrupt else None
    if weights is None and options.data is not None and "val" in options.set:
        source_of(options.data).check(options.split)  # before weights are fetched for a mistaken folder
    with going_on(out), _processes(settings) as shared:
        classifier = _classifier(recipe, weights, options.model)
        if classifier.multi_label:
            refuse_single_label(options)
        # May write images: not for a file that cannot be evaluated.
        folder = ClassificationTask.data_folder(recipe, options.data)
        known = classifier.name if weights is None else None
        asked = released_name(options.model or recipe.model, recipe.fit.size) if options.paper else None
        grid = _grid(classifier, folder, options, known or asked)
        main_process = shared.processes is None or shared.processes.is_main
        finished = _kept(classifier, weights, shared, options)
        if main_process and out is None and (options.multi_scale or options.corrupt):
            show_notices([NOTHING_KEPT])
        document: dict[str, Any] = {
            "recipe": recipe.name,
            "model": classifier.name,
            "checkpoint": None if weights is None else str(weights.path),
            "precision": settings.precision,
            "optimized": settings.folded or settings.precision == "int8",
        }
        if classifier.multi_label:
            evaluate_labels(classifier, folder, shared, options, finished, document)
            return
        if library is not None:
            evaluate_corrupted(classifier, folder, library, shared, options, finished, document)
            return
        cells = survey(classifier, grid, shared, partial(total_progress, shown=main_process), finished=finished)
    if not main_process:
        return
    notices = list(dict.fromkeys(notice for cell in cells for notice in cell.notices))
    broken = dict.fromkeys(name for cell in cells for name in cell.score.broken_names)
    show_notices([*notices_of(finished), *notices, *(f"{name} could not be read and was left out." for name in broken)])
    document |= {
        "data": source_of(folder, classifier.held_out).place(grid.split) if grid.sets == ("val",) else str(folder),
        "notices": notices,
        "results": [cell.document() for cell in cells],
    }
    if options.json:
        print_json(document)
    else:
        print_cells(cells, grid)
    if out is not None:  # last, so that a full disk costs no answer
        write_results(out, document, cells)
        if not options.json:
            _print_written(out, cells)


def _kept(
    classifier: Classifier, weights: WeightsFile | None, settings: EvaluationSettings, options: EvaluateOptions
) -> Finished:
    facts: dict[str, Any] = {"task": "classification", "name": classifier.name, "classes": classifier.classes}
    facts |= {"fit": asdict(classifier.fit), "folded": settings.folded, "calibration": settings.calibration_images}
    return kept_parts(options, weights, classifier.model, settings.processes, **facts)


def _print_written(out: Path, cells: Sequence[Cell]) -> None:
    """Print the calibration error of a single evaluation, and where its files are."""
    console = Console(highlight=False)
    answers = cells[0].score.answers if len(cells) == 1 else None
    if answers is not None:
        found = answers.calibration()
        console.print(f"Expected calibration error: {found.error:.2f} % ({len(found.counts)} bins of confidence).")
    console.print(f"Details by class, charts and pictures: {out}", soft_wrap=True)


def _grid(classifier: Classifier, folder: Path, options: EvaluateOptions, weights: str | None) -> EvaluationGrid:
    sizes = options.size or (SIZES if options.multi_scale else ())
    return EvaluationGrid(
        data=folder,
        sets=options.set,
        split=options.split,
        modes=options.mode or (MODES if options.multi_scale and has_modes(classifier) else (None,)),
        sizes=tuple((side, side) for side in sizes) or (None,),
        pool_size=options.pool_size,
        weights=weights,
        always=options.paper,
    )


def _classifier(recipe: Recipe, weights: WeightsFile | None, model: str | None) -> Classifier:
    return fetch(recipe, model) if weights is None else restore(weights, model, recipe=recipe)


@contextlib.contextmanager
def _processes(alone: EvaluationSettings) -> Iterator[EvaluationSettings]:
    """Evaluate in this process alone, or in those that a launcher started."""
    started = int(os.environ.get("WORLD_SIZE", 1)) > 1
    yield replace(alone, processes=start_processes()) if started else alone
    leave_processes()


def print_cells(cells: Sequence[Cell], grid: EvaluationGrid) -> None:
    """Print one row per evaluation, or sizes side by side if modes are compared; ImageNet-C separately."""
    console = Console(highlight=False)
    plain = [cell for cell in cells if cell.corruptions is None]
    if len(grid.modes) > 1 and len(grid.sizes) > 1:
        for title in dict.fromkeys(cell.title for cell in plain):
            alike = [cell for cell in plain if cell.title == title]
            console.print(f"Top-1 in percent, {title}{_over(alike[0])}, by side of the image in pixels")
            console.print(_by_size(alike))
    elif plain:
        console.print(_rows(plain))
    for cell in cells:
        if cell.corruptions is not None:
            console.print(*_corruption_lines(cell, cell.corruptions), sep="\n")
    for line in _remarks(cells, grid):
        say(line)


def _rows(cells: Sequence[Cell]) -> Table:
    """Return a table without the columns that would be empty."""
    names_sets, modes = not all(cell.is_val for cell in cells), any(cell.mode for cell in cells)
    papers = any(cell.paper is not None for cell in cells)
    partial = any(cell.uncounted for cell in cells)
    k = cells[0].score.k  # the same for all: a classifier of other classes than ImageNet's has one set
    texts = [*(["set"] if names_sets else []), *(["mode"] if modes else [])]
    counts = ["size", "images", *(["classes"] if partial else [])]
    figures = ["top-1", *(["paper"] if papers else []), *([f"top-{k}"] if k > 1 else []), "loss", "images/s"]
    table = columns(texts, [*counts, *figures], gap=2)
    for cell in cells:
        result, words = cell.score, []
        if names_sets:
            words.append(cell.title)
        if modes:
            words.append(MODE_TITLES[cell.mode])
        words += [f"{cell.size[0]}x{cell.size[1]}", f"{result.images:,}"]
        if partial:
            words.append(f"{result.counted_classes:,} of {len(cell.classes):,}")
        words.append(f"{result.top1:.2f}")
        if papers:
            words.append(_figure(cell.paper))
        if k > 1:
            words.append(f"{result.top_k:.2f}")
        table.add_row(*words, digits(result.loss), f"{result.images_per_second:.1f}")
    return table


def _over(cell: Cell) -> str:
    """Return over how many classes the figures are, if not over all."""
    return f" over {cell.score.counted_classes:,} of {len(cell.classes):,} classes" if cell.uncounted else ""


def _by_size(cells: Sequence[Cell]) -> Table:
    """Return a table like table 5 of TransNeXt's paper: one row per mode, and the paper's figures below, if any."""
    sizes = list(dict.fromkeys(cell.size for cell in cells))
    sides = [str(height) if height == width else f"{height}x{width}" for height, width in sizes]
    table = columns(["mode"], sides, gap=2)
    for mode in dict.fromkeys(cell.mode for cell in cells):
        row = {cell.size: cell for cell in cells if cell.mode == mode}
        table.add_row(MODE_TITLES[mode], *(f"{row[size].score.top1:.2f}" for size in sizes))
        if any(cell.paper is not None for cell in row.values()):
            table.add_row("  paper", *(_figure(row[size].paper) for size in sizes), style="dim")
    return table


def _corruption_lines(cell: Cell, found: CorruptionErrors) -> list[str | Table]:
    beside = "" if cell.paper is None else f" (paper {_figure(cell.paper)})"
    mode = f", {MODE_TITLES[cell.mode]}" if cell.mode else ""
    table = columns(["error by severity, %"], [*map(str, SEVERITIES), "mean", "CE"], gap=2)
    means, relative = found.means, found.relative
    for name, errors in found.errors.items():
        table.add_row(name.replace("_", " "), *(f"{error:.2f}" for error in (*errors, means[name], relative[name])))
    return [
        f"ImageNet-C, {cell.size[0]}x{cell.size[1]}{mode}, {many(cell.score.images, 'image')}{_over(cell)}: "
        f"mCE {percent(found.mce)}{beside}, mean error {percent(found.mean_error)}",
        table,
    ]


def _remarks(cells: Sequence[Cell], grid: EvaluationGrid) -> list[str]:
    """Return notes: images and classes that were left out, and why a figure of the paper is missing or may not
    compare."""
    broken = dict.fromkeys((cell.title, cell.score.broken) for cell in cells if cell.score.broken)
    left_out = [f"{title}: {many(count, 'broken image')} left out." for title, count in broken]
    left_out = [*_int8_remarks(cells), *dict.fromkeys(_uncounted(cell) for cell in cells if cell.uncounted), *left_out]
    if grid.weights is None:
        return left_out
    if grid.always:
        return [*left_out, f"paper: published for {grid.weights}, not necessarily for these weights."]
    partial = dict.fromkeys((cell.title, cell.set, cell.score.images) for cell in cells)
    return left_out + [
        f"{title}: {images:,} of {whole:,} images, so the paper's figure is not shown."
        for title, name, images in partial
        if images != (whole := VAL_IMAGES if name == "val" else SETS[name].images)
    ]


def _uncounted(cell: Cell) -> str:
    """Return which classes have no image, and what the figures are therefore of."""
    return f"{cell.title}: figures are{_over(cell)}, without an image of {named(cell.uncounted)}."


def _int8_remarks(cells: Sequence[Cell]) -> Iterator[str]:
    """Yield how the networks were quantized: a line for each size and mode, and one if no training images were used."""
    found = {(cell.size, cell.mode): cell.int8 for cell in cells if cell.int8 is not None}
    for (size, mode), int8 in found.items():
        where = f"{size[0]}x{size[1]}{f', {MODE_TITLES[mode]}' if mode else ''}: " if len(found) > 1 else ""
        yield where + int8.report.summary()
    if found and (reason := why_slow()):
        yield f"int8 is not faster here: {reason}."
    calibration = next((int8.calibration for int8 in found.values()), None)
    if calibration is not None and not calibration.of_training:
        yield f"Calibrated on images that are evaluated, those of {calibration.place}: there is no train/ beside them."


def _figure(paper: float | None) -> str:
    return "" if paper is None else f"{paper:.1f}"
