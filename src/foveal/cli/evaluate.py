"""``foveal evaluate``: how good a classifier is, on one or several sets, sizes and modes."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from foveal.cli.console import Json, UsageError, print_json, progress
from foveal.cli.evaluate_tables import print_cells
from foveal.report.evaluation import check_results_folder, write_results
from foveal.tasks.classification.evaluate import Inference
from foveal.tasks.classification.imagenet.published import SIZES
from foveal.tasks.classification.imagenet.sets import SetName
from foveal.tasks.classification.modes import MODES, Mode, has_modes
from foveal.tasks.classification.network import Classifier, fetch, released_name, restore
from foveal.tasks.classification.recipe import Recipe
from foveal.tasks.classification.recipes import get_recipe
from foveal.tasks.classification.survey import OnBatch, Plan, survey
from foveal.tasks.classification.task import data_folder
from foveal.training.config import Broken, Precision
from foveal.training.processes import leave_processes, start_processes


def main(
    recipe: Annotated[Positional[str], arg(metavar="RECIPE")],
    *,
    checkpoint: Path | None = None,
    pretrained: bool = False,
    data: Path | None = None,
    sets: Annotated[tuple[SetName, ...], arg(name="set")] = ("val",),
    model: str | None = None,
    size: tuple[int, ...] = (),
    mode: tuple[Mode, ...] = (),
    multi_scale: bool = False,
    pool_size: int | None = None,
    split: str = "val",
    paper: bool = False,
    batch_size: int = 64,
    workers: int = 2,
    precision: Precision = "fp32",
    optimize: bool = False,
    broken: Broken = "stop",
    out: Path | None = None,
    json: Json = False,
) -> None:
    """Top-1 and top-5 of a classifier on a folder of images, and on the sets that measure robustness.

    A file of foveal train says itself which model, classes and image treatment it has; for released weights the recipe
    does. Under torchrun or accelerate launch the processes share the images, each taken once.

    Args:
        recipe: Name of the recipe.
        checkpoint: File with the weights: best.pt of a run, or released ones.
        pretrained: The released weights, downloaded from their public home; their authors' figures stand beside ours.
        data: Folder with val/<class>/; the recipe's own images if it has some. Other sets lie in it as their archives
            unpack: imagenet-a, imagenet-r, sketch, imagenetv2-matched-frequency-format-val, imagenet-c.
        sets: Sets to evaluate on, one or more: val, a (ImageNet-A), r, sketch, v2, c (mCE).
        model: Model in the file, where neither the file nor the recipe says it right.
        size: Side of the square images in pixels, one or more; that of training if left out.
        mode: Modes of TransNeXt, one or more; the network's own if left out.
        multi_scale: All modes that the network has, at the sizes of TransNeXt's paper; --mode and --size choose fewer.
        pool_size: Linear mode of TransNeXt: pool keys and values to this size whatever the image's.
        split: Folder of --data that "val" means.
        paper: Show the authors' figures for the recipe's model also beside other weights or a part of the images.
        batch_size: Images at a time, on each process.
        workers: Loading processes beside each process.
        precision: What the network computes in.
        optimize: Fold the network for inference first, as foveal.optimize does.
        broken: What a broken image does: stop the evaluation, or be left out and counted.
        out: Folder for results.json and, of several sizes or ImageNet-C, a picture.
    """
    _check(checkpoint, pretrained, sets, mode, pool_size, batch_size, workers)
    if out is not None:
        check_results_folder(out)
    chosen = get_recipe(recipe)
    with _processes(Inference(batch_size, workers, None, None, precision, optimize, broken)) as inference:
        classifier = _classifier(chosen, checkpoint, model)
        folder = data_folder(chosen, data)  # may write images: not for a file that cannot be evaluated
        known = classifier.name if checkpoint is None else None
        plan = Plan(
            data=folder,
            sets=sets,
            split=split,
            modes=mode or (MODES if multi_scale and has_modes(classifier) else (None,)),
            sizes=tuple((side, side) for side in size or (SIZES if multi_scale else ())) or (None,),
            pool_size=pool_size,
            weights=known or (released_name(model or chosen.model, chosen.fit.size) if paper else None),
            always=paper,
        )
        main_process = inference.processes is None or inference.processes.is_main
        cells = survey(classifier, plan, inference, progress if main_process else _silent)
    if not main_process:
        return
    for name in dict.fromkeys(name for cell in cells for name in cell.score.broken_names):
        print(f"foveal: {name} could not be read and was left out.", file=sys.stderr)
    document = {
        "recipe": recipe,
        "model": classifier.name,
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "data": str(folder / split) if sets == ("val",) else str(folder),
        "precision": precision,
        "optimized": optimize,
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


@contextlib.contextmanager
def _silent(title: str) -> Iterator[OnBatch]:
    yield lambda done, total: None


def _check(
    checkpoint: Path | None,
    pretrained: bool,
    sets: tuple[Any, ...],
    modes: tuple[Any, ...],
    pool_size: int | None,
    batch_size: int,
    workers: int,
) -> None:
    if checkpoint is None and not pretrained:
        raise UsageError(
            "Weights are missing: foveal evaluate RECIPE --checkpoint FILE, or --pretrained for the released ones."
        )
    if checkpoint is not None and pretrained:
        raise UsageError("--checkpoint and --pretrained both name the weights: pass one of them.")
    for option, values in (("--set", sets), ("--mode", modes)):
        if len(set(values)) != len(values):
            raise UsageError(f"{option} names one of its values twice: name each once.")
    if not sets:
        raise UsageError("--set names no set: name one, or leave it out.")
    if pool_size is not None and modes and "linear" not in modes:
        raise UsageError("--pool-size is for linear mode: add linear to --mode, or leave one of them out.")
    if batch_size < 1:
        raise UsageError(f"--batch-size must be at least 1, not {batch_size}.")
    if workers < 0:
        raise UsageError(f"--workers must be at least 0, not {workers}.")
