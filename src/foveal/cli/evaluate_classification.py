"""``foveal evaluate`` of a classifier: top-1, top-5 and mCE over sets, sizes and modes."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from foveal.cli.console import print_json, progress
from foveal.cli.evaluate_options import EvaluateOptions
from foveal.cli.evaluate_tables import print_cells
from foveal.report.evaluation import check_results_folder
from foveal.report.evaluation_classification import write_results
from foveal.tasks.classification.evaluate import EvaluationSettings
from foveal.tasks.classification.imagenet.published import SIZES
from foveal.tasks.classification.modes import MODES, has_modes
from foveal.tasks.classification.network import Classifier, fetch, released_name, restore
from foveal.tasks.classification.recipe import Recipe
from foveal.tasks.classification.survey import EvaluationGrid, survey
from foveal.tasks.classification.task import ClassificationTask
from foveal.training.processes import leave_processes, start_processes


def evaluate_classifier(recipe: Recipe, options: EvaluateOptions) -> None:
    """Measure the classifier in a file, or the released one, and print the figures."""
    out, checkpoint = options.out, options.checkpoint
    settings = EvaluationSettings(
        options.batch_size or 64, options.workers, None, None, options.precision, options.optimize, options.broken
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
    for name in dict.fromkeys(name for cell in cells for name in cell.score.broken_names):
        print(f"foveal: {name} could not be read and was left out.", file=sys.stderr)
    document = {
        "recipe": recipe.name,
        "model": classifier.name,
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "data": str(folder / grid.split) if grid.sets == ("val",) else str(folder),
        "precision": settings.precision,
        "optimized": settings.folded,
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
    """By this process alone, or by those that a launcher started."""
    started = int(os.environ.get("WORLD_SIZE", 1)) > 1
    yield replace(alone, processes=start_processes()) if started else alone
    leave_processes()
