"""What ``foveal train`` does with its options."""

import os
import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from foveal.cli.commands.train import RunOptions, main
from foveal.cli.console import UsageError, print_json, show_notices
from foveal.cli.options import given, refuse_others
from foveal.cli.plan import show_plan, started_processes
from foveal.cli.run_file import RUN_FILE, kept, write_run_file
from foveal.cli.run_options import how_to_resume
from foveal.cli.signature import options_of
from foveal.cli.train_report import write_report
from foveal.errors import FovealError
from foveal.report.chart_training import draw_curves
from foveal.tasks.classification.recipe import Recipe
from foveal.tasks.recipe import BaseRecipe, check_drop_path
from foveal.tasks.recipes import create_task, get_recipe, plan_recipe
from foveal.tasks.task import Task
from foveal.training import Outcome, fit
from foveal.training.listener import Listener, Listeners, RunInfo, over_classes
from foveal.training.processes import leave_processes
from foveal.training.progress import listener_for
from foveal.training.run_files import BROKEN, LAST
from foveal.training.tracking import Tracking
from foveal.wording import many, percent, title


def run(options: RunOptions, settings: Any) -> None:
    """Train by the recipe of the options, or show what it would do; ``settings`` are those of the recipe to change."""
    recipe = get_recipe(str(options.recipe), own_images=options.data is not None)
    for chosen in (options, settings):
        refuse_others(chosen, recipe.kind, f"{options.recipe} is")
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
    if isinstance(recipe, Recipe):
        names = ("mixup", "cutmix", "label_smoothing")
        asked = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
        recipe = recipe.with_augmentation(options.augment, **asked)
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
    listener = _listener(options, settings)
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
    outcome = _train(
        task,
        options.folder,
        resumes,
        listener,
        other_length="epochs" in given(settings),  # otherwise it is the recipe's, which nobody asked for
    )
    if not is_main:
        return  # only the main process answers
    if outcome.history:
        _draw(options.folder, outcome)
    report = write_report(task, outcome, options)
    if options.json:
        document = asdict(outcome)
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in document.items()}
        print_json({**plain, "notices": list(task.notices), "report": report and str(report)})
    else:
        _report(options, outcome)
        if report is not None:
            print(f"Report, to open in a browser: {report}")


def _listener(options: RunOptions, settings: Any) -> Listener:
    shown = listener_for(sys.stderr)
    trackers = [word.strip() for word in (options.track or "").split(",") if word.strip()]
    trackers += ["tensorboard"] * options.tensorboard
    tracking = [Tracking(trackers, options.folder, shown.notice)] if trackers else []
    return Listeners([_RunFile(options.folder, kept(options, settings)), shown, *tracking])


class _RunFile(Listener):
    """Writes the options of a run into its folder as it begins: then they have been accepted, and the folder is
    held."""

    def __init__(self, folder: Path, values: dict[str, Any]) -> None:
        self.folder, self.values = folder, values

    def begin(self, info: RunInfo) -> None:
        write_run_file(self.folder / RUN_FILE, self.values, options_of(main))


def _draw(folder: Path, outcome: Outcome) -> None:
    """Draw the curves if possible: a successful run does not fail for lack of matplotlib."""
    try:
        draw_curves(folder, outcome.monitor, outcome.best_epoch)
    except FovealError as error:
        print(f"No curves: {error}", file=sys.stderr)


def _train(task: Task[Any], folder: Path, resumes: bool, listener: Listener, *, other_length: bool) -> Outcome:
    last = folder / LAST
    resume = last if resumes else None
    try:
        outcome = fit(task, task.recipe.train, folder, listener=listener, resume=resume, other_length=other_length)
    except KeyboardInterrupt:
        saved = f"{how_to_resume(folder)} continues from the last save"
        raise KeyboardInterrupt(f"Stopped: {saved if last.exists() else 'nothing was saved'}") from None
    leave_processes()
    return outcome


def _report(options: RunOptions, outcome: Outcome) -> None:
    if outcome.interrupted:
        print(
            f"Stopped after update {outcome.updates}. State saved to {outcome.last_path}; "
            f"{how_to_resume(options.folder)} continues."
        )
        return
    if outcome.stopped_early or outcome.epochs == outcome.epochs_before:
        print(_ended(options, outcome))
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


def _ended(options: RunOptions, outcome: Outcome) -> str:
    """Return why a run ended before its last epoch, or did nothing, and how it goes on."""
    done, planned = outcome.epochs, outcome.planned_epochs
    again = outcome.epochs == outcome.epochs_before
    if not outcome.stopped_early:
        longer = how_to_resume(options.folder, "--epochs", str(2 * planned))
        return f"The run was finished, after {many(done, 'epoch')}; {longer} makes it longer."
    waited = done - outcome.best_epoch
    sentence = f"No improvement for {many(waited, 'epoch')}: stopped after epoch {done} of {planned}."
    longer = how_to_resume(options.folder, "--patience", str(2 * waited))
    return f"{sentence} {longer} goes on." if again else sentence
