"""What ``foveal train`` does with its options."""

import os
import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from foveal.cli.commands.train import RunOptions
from foveal.cli.console import UsageError, print_json, show_notices
from foveal.cli.options import given, refuse_others
from foveal.cli.plan import show_plan, started_processes
from foveal.cli.train_report import write_report
from foveal.errors import FovealError
from foveal.report.chart_training import draw_curves
from foveal.tasks.recipe import BaseRecipe, check_drop_path
from foveal.tasks.recipes import create_task, get_recipe, plan_recipe
from foveal.training import Outcome, fit
from foveal.training.config import TrainConfig
from foveal.training.journal import BROKEN, LAST
from foveal.training.listener import Listener, Listeners, over_classes
from foveal.training.processes import leave_processes
from foveal.training.progress import TensorBoard, listener_for
from foveal.training.task import Task
from foveal.wording import percent, title


def run(options: RunOptions, settings: Any) -> None:
    """Train by the recipe of the options, or show what it would do; ``settings`` are those of the recipe to change."""
    recipe = get_recipe(str(options.recipe), own_images=options.data is not None)
    refuse_others(options, recipe.kind, f"{options.recipe} is")
    recipe = _adapted(recipe, options, given(settings))
    if options.dry_run:
        _show_plan(recipe, options)
        return
    if options.processes is not None or options.images is not None:
        raise UsageError("--processes and --images belong to --dry-run: leave them out.")
    _run(recipe, options, settings)


def _adapted(recipe: BaseRecipe, options: RunOptions, settings: dict[str, Any]) -> BaseRecipe:
    recipe = recipe.with_model(options.model or recipe.model).with_training(**settings)
    if options.size is not None:
        recipe = recipe.with_size(options.size)
    if options.drop_path is not None:
        recipe = recipe.with_drop_path(options.drop_path)
    changes: dict[str, Any] = {}
    if options.mask_suffix is not None:
        changes["mask_suffix"] = options.mask_suffix
    if options.zero is not None:
        changes["zero_ignored"] = options.zero == "ignored"
    return replace(recipe, **changes)


def _show_plan(recipe: BaseRecipe, options: RunOptions) -> None:
    plan = plan_recipe(
        recipe,
        options.data,
        images=options.images,
        processes=started_processes(options.processes),
        checkpoint=options.checkpoint,
        pretrained=options.pretrained,
    )
    check_drop_path(options.drop_path, plan.recipe)
    if os.environ.get("RANK", "0") == "0":
        show_notices(plan.images.notices)
        show_plan(plan, options.json)


def _run(recipe: BaseRecipe, options: RunOptions, settings: Any) -> None:
    resumes = options.resume or (options.requeue and (options.folder / LAST).exists())
    task = create_task(
        recipe,
        options.data,
        checkpoint=options.checkpoint,
        pretrained=options.pretrained,
        resumes=resumes,
    )
    check_drop_path(options.drop_path, task.recipe)
    is_main = os.environ.get("RANK", "0") == "0"
    if is_main:
        show_notices([*task.notices, *([] if task.start is None else [str(task.start)])])
    outcome = _train(task, task.recipe.train, options.folder, resumes, _listener(options.folder, options.tensorboard))
    if not is_main:
        return  # only the main process answers
    if outcome.history:
        _draw(options.folder, outcome)
    report = write_report(task, outcome, options, settings)
    if options.json:
        document = asdict(outcome)
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in document.items()}
        print_json({**plain, "notices": list(task.notices), "report": report and str(report)})
    else:
        _report(options, outcome)
        if report is not None:
            print(f"Report, to open in a browser: {report}")


def _listener(folder: Path, tensorboard: bool) -> Listener:
    shown = listener_for(sys.stderr)
    return Listeners([shown, TensorBoard(folder)]) if tensorboard else shown


def _draw(folder: Path, outcome: Outcome) -> None:
    """Draw the curves if possible: a successful run does not fail for lack of matplotlib."""
    try:
        draw_curves(folder, outcome.monitor, outcome.best_epoch)
    except FovealError as error:
        print(f"No curves: {error}", file=sys.stderr)


def _train(task: Task, config: TrainConfig, folder: Path, resume: bool, listener: Listener) -> Outcome:
    last = folder / LAST
    try:
        outcome = fit(task, config, folder, listener=listener, resume=last if resume else None)
    except KeyboardInterrupt:
        saved = "the same command with --resume continues from the last save"
        raise KeyboardInterrupt(f"Stopped: {saved if last.exists() else 'nothing was saved'}") from None
    leave_processes()
    return outcome


def _report(options: RunOptions, outcome: Outcome) -> None:
    if outcome.interrupted:
        print(
            f"Stopped after update {outcome.updates}. State saved to {outcome.last_path}; "
            "the same command with --resume continues."
        )
        return
    if (options.folder / BROKEN).exists():
        print(f"Images that could not be read were skipped: {options.folder / BROKEN} lists them.")
    best = next((record for record in outcome.history if record["epoch"] == outcome.best_epoch), {})
    assert outcome.best is not None  # an epoch has ended
    headline = f"Best {title(outcome.monitor)} {percent(outcome.best)}{over_classes(best)}"
    print(
        f"{headline} in epoch {outcome.best_epoch} of {outcome.epochs}, "
        f"{outcome.seconds:.0f} s; weights saved to {outcome.best_path}."
    )
    words = ["foveal", "evaluate", str(options.recipe), "--checkpoint", str(outcome.best_path)]
    print(f"Evaluate them: {shlex.join(words if options.data is None else [*words, '--data', str(options.data)])}")
