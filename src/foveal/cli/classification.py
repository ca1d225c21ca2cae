"""The commands for classifiers: ``foveal evaluate`` with top-1, top-k and mCE, ``foveal predict`` with top classes."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from foveal.cli.console import columns, print_json, progress, say, show_notices
from foveal.cli.options import EvaluateOptions, PredictOptions
from foveal.models.weights_file import WeightsFile
from foveal.ops.int8 import why_slow
from foveal.report.evaluation import check_results_folder
from foveal.report.evaluation_classification import write_results
from foveal.runtime.classification import predict as classify_exported
from foveal.runtime.guesses import Prediction
from foveal.runtime.session import Session
from foveal.tasks.classification.data import source_of
from foveal.tasks.classification.data.classes import named
from foveal.tasks.classification.evaluate import EvaluationSettings
from foveal.tasks.classification.imagenet.corruptions import SEVERITIES, CorruptionErrors
from foveal.tasks.classification.imagenet.sets import SETS, SIZES, VAL_IMAGES
from foveal.tasks.classification.modes import MODE_TITLES, has_modes
from foveal.tasks.classification.names import MODES
from foveal.tasks.classification.network import Classifier, fetch, released_name, restore
from foveal.tasks.classification.predict import predict as classify
from foveal.tasks.classification.recipes import Recipe
from foveal.tasks.classification.survey import Cell, EvaluationGrid, survey
from foveal.tasks.classification.task import ClassificationTask
from foveal.training.processes import leave_processes, start_processes
from foveal.wording import digits, many, percent

TOP_K = 5


def evaluate(recipe: Recipe, options: EvaluateOptions) -> None:
    """Evaluate the classifier in a file, or the released one, and print the figures."""
    out, checkpoint = options.out, options.checkpoint
    settings = EvaluationSettings(
        batch_size=options.batch_size or 64,
        workers=options.workers,
        precision=options.precision,
        folded=options.optimize,
        broken=options.broken,
        calibration_images=options.calibration_images or 128,
    )
    if out is not None:
        check_results_folder(out)
    with _processes(settings) as shared:
        classifier = _classifier(recipe, checkpoint, options.model)
        # May write images: not for a file that cannot be evaluated.
        folder = ClassificationTask.data_folder(recipe, options.data)
        known = classifier.name if checkpoint is None else None
        asked = released_name(options.model or recipe.model, recipe.fit.size) if options.paper else None
        grid = _grid(classifier, folder, options, known or asked)
        main_process = shared.processes is None or shared.processes.is_main
        cells = survey(classifier, grid, shared, partial(progress, shown=main_process))
    if not main_process:
        return
    notices = list(dict.fromkeys(notice for cell in cells for notice in cell.notices))
    broken = dict.fromkeys(name for cell in cells for name in cell.score.broken_names)
    show_notices([*notices, *(f"{name} could not be read and was left out." for name in broken)])
    document = {
        "recipe": recipe.name,
        "model": classifier.name,
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "data": source_of(folder, classifier.held_out).place(grid.split) if grid.sets == ("val",) else str(folder),
        "precision": settings.precision,
        "optimized": settings.folded or settings.precision == "int8",
        "notices": notices,
        "results": [cell.document() for cell in cells],
    }
    if options.json:
        print_json(document)
    else:
        print_cells(cells, grid)
    if out is not None:  # last, so that a full disk costs no answer
        write_results(out, document, cells)


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


def _classifier(recipe: Recipe, checkpoint: Path | None, model: str | None) -> Classifier:
    return fetch(recipe, model) if checkpoint is None else restore(checkpoint, model, recipe=recipe)


@contextlib.contextmanager
def _processes(alone: EvaluationSettings) -> Iterator[EvaluationSettings]:
    """Evaluate in this process alone, or in those that a launcher started."""
    started = int(os.environ.get("WORLD_SIZE", 1)) > 1
    yield replace(alone, processes=start_processes()) if started else alone
    leave_processes()


def predict(images: Sequence[Path], weights: WeightsFile, recipe: Recipe | None, options: PredictOptions) -> None:
    """Classify ``images`` and print the most probable classes."""
    classifier = ClassificationTask.restore(weights, recipe, size=options.size, name=options.model)
    with progress("Predicting") as on_batch:
        predictions = classify(classifier, images, top_k=options.top_k or TOP_K, on_batch=on_batch)
    _print_predictions(predictions, options)


def predict_exported(images: Sequence[Path], session: Session, options: PredictOptions) -> None:
    """Classify ``images`` with an exported file and print the most probable classes."""
    size = None if options.size is None else (options.size, options.size)
    with progress("Predicting") as on_batch:
        predictions = classify_exported(session, images, size=size, top_k=options.top_k or TOP_K, on_batch=on_batch)
    _print_predictions(predictions, options)


def _print_predictions(predictions: Sequence[Prediction], options: PredictOptions) -> None:
    if options.json:
        print_json([asdict(prediction) for prediction in predictions])
        return
    for prediction in predictions:
        print(prediction.path)
        for guess in prediction.guesses:
            print(f"  {percent(100 * guess.probability):>8}  {guess.name}")


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
