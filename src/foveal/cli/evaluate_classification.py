"""``foveal evaluate`` of a classifier: top-1, top-5 and mCE over sets, sizes and modes."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from foveal.cli.console import print_json, progress
from foveal.cli.evaluate_tables import print_cells
from foveal.report.evaluation import check_results_folder, write_results
from foveal.tasks.classification.evaluate import Inference
from foveal.tasks.classification.imagenet.published import SIZES
from foveal.tasks.classification.imagenet.sets import SetName
from foveal.tasks.classification.modes import MODES, Mode, has_modes
from foveal.tasks.classification.network import Classifier, fetch, released_name, restore
from foveal.tasks.classification.recipe import Recipe
from foveal.tasks.classification.survey import Plan, survey
from foveal.tasks.classification.task import data_folder
from foveal.training.processes import leave_processes, start_processes


def evaluate_classifier(
    recipe: Recipe,
    checkpoint: Path | None,
    data: Path | None,
    *,
    sets: tuple[SetName, ...],
    model: str | None,
    sizes: tuple[int, ...],
    modes: tuple[Mode, ...],
    multi_scale: bool,
    pool_size: int | None,
    split: str,
    paper: bool,
    inference: Inference,
    out: Path | None,
    json: bool,
) -> None:
    """Measure the classifier in a file, or the released one, and print the figures; see ``foveal.cli.evaluate``."""
    if out is not None:
        check_results_folder(out)
    with _processes(inference) as shared:
        classifier = _classifier(recipe, checkpoint, model)
        folder = data_folder(recipe, data)  # may write images: not for a file that cannot be evaluated
        known = classifier.name if checkpoint is None else None
        plan = Plan(
            data=folder,
            sets=sets,
            split=split,
            modes=modes or (MODES if multi_scale and has_modes(classifier) else (None,)),
            sizes=tuple((side, side) for side in sizes or (SIZES if multi_scale else ())) or (None,),
            pool_size=pool_size,
            weights=known or (released_name(model or recipe.model, recipe.fit.size) if paper else None),
            always=paper,
        )
        main_process = shared.processes is None or shared.processes.is_main
        cells = survey(classifier, plan, shared, partial(progress, shown=main_process))
    if not main_process:
        return
    for name in dict.fromkeys(name for cell in cells for name in cell.score.broken_names):
        print(f"foveal: {name} could not be read and was left out.", file=sys.stderr)
    document = {
        "recipe": recipe.name,
        "model": classifier.name,
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "data": str(folder / split) if sets == ("val",) else str(folder),
        "precision": inference.precision,
        "optimized": inference.folded,
        "results": [cell.document() for cell in cells],
    }
    if json:
        print_json(document)
    else:
        print_cells(cells, plan)
    if out is not None:  # last, so that a full disk costs no answer
        write_results(out, document, cells)


def _classifier(recipe: Recipe, checkpoint: Path | None, model: str | None) -> Classifier:
    return fetch(recipe, model) if checkpoint is None else restore(checkpoint, model, recipe=recipe)


@contextlib.contextmanager
def _processes(alone: Inference) -> Iterator[Inference]:
    """By this process alone, or by those that a launcher started."""
    started = int(os.environ.get("WORLD_SIZE", 1)) > 1
    yield replace(alone, processes=start_processes()) if started else alone
    leave_processes()
