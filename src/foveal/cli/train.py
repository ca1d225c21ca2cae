"""``foveal train``: a recipe, images, and the loop."""

import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from foveal.cli.console import Json, UsageError, print_json
from foveal.cli.plan import show_plan, started_processes
from foveal.errors import FovealError
from foveal.report.chart_training import draw_curves
from foveal.tasks.recipe import BaseRecipe, check_drop_path
from foveal.tasks.recipes import create_task, get_recipe, list_recipes, plan_recipe
from foveal.training import Outcome, fit
from foveal.training.config import Broken, Precision, TrainConfig
from foveal.training.journal import BROKEN, LAST
from foveal.training.listener import Listener, Listeners
from foveal.training.processes import leave_processes
from foveal.training.progress import listener_for
from foveal.training.task import Task
from foveal.training.tensorboard import TensorBoard

NARROWEST = 24  # columns of a summary


def main(
    recipe: Annotated[Positional[str | None], arg(metavar="RECIPE")] = None,
    *,
    show_list: Annotated[bool, arg(name="list")] = False,
    data: Path | None = None,
    model: str | None = None,
    checkpoint: Path | None = None,
    pretrained: bool = False,
    out: Path | None = None,
    resume: bool = False,
    requeue: bool = False,
    epochs: int | None = None,
    epoch_steps: int | None = None,
    batch_size: int | None = None,
    device_batch_size: int | None = None,
    lr: float | None = None,
    warmup_epochs: int | None = None,
    size: int | None = None,
    drop_path: float | None = None,
    precision: Precision | None = None,
    workers: int | None = None,
    broken: Broken | None = None,
    save_steps: int | None = None,
    tensorboard: bool = False,
    seed: int | None = None,
    compile: bool = False,
    grad_checkpointing: bool = False,
    dry_run: bool = False,
    processes: int | None = None,
    images: int | None = None,
    json: Json = False,
) -> None:
    """Train or fine-tune a model by a recipe; under torchrun or accelerate launch on many GPUs and machines.

    What is left out is as the recipe says. The folder of the run gets best.pt (the weights that scored best), last.pt
    (all that --resume needs), metrics.jsonl (a line an epoch), steps.jsonl (a line every few updates) and, at the end,
    curves.png. SIGTERM and Ctrl-C let the update that is under way end, save, and leave, with exit codes 0 and 130.

    Args:
        recipe: Name of the recipe, or finetune.MODEL for any model on your own images.
        show_list: Show all recipes.
        data: Folder with train/<class>/ and val/<class>/, ImageNet as it is extracted, tar shards, or a Hugging Face
            dataset (hf:NAME); of a detector a folder in COCO's layout, of a segmenter one in ADE20K's.
        model: Another model of timm or of ours.
        checkpoint: File with weights to start from, of a detector or a segmenter its own or its backbone's; layers for
            other classes start anew.
        pretrained: Start from the released weights (of a detector or a segmenter its backbone's), downloaded from their
            public home.
        out: Folder of the run; runs/RECIPE if left out.
        resume: Go on with the run in --out where it was last saved.
        requeue: As --resume where --out holds a run, and else a new one: for a scheduler that starts a job again.
        epochs: Passes over the training images, warm-up included, cooldown not; after each the model is evaluated.
        epoch_steps: Updates in an epoch, where it is to be no pass: epochs then follow each other through the images.
        batch_size: Images behind one update, over all devices and accumulation steps.
        device_batch_size: Images in one forward pass on one device.
        lr: Highest learning rate.
        warmup_epochs: Epochs in which the learning rate grows; if left out as the recipe says, but fewer than --epochs.
        size: Side of the square images in pixels; of a detector the short side, of a segmenter the side of its crops,
            all other sides in proportion.
        drop_path: Stochastic depth of the deepest block.
        precision: What the forward pass computes in.
        workers: Loading processes beside each training process.
        broken: What a broken image or annotation does: stop the run, or be skipped and counted.
        save_steps: Save after every so many updates too; if left out at the end of each epoch alone.
        tensorboard: Write event files into the folder of the run.
        seed: Of all randomness.
        compile: Compile the model with torch.compile.
        grad_checkpointing: Trade time for memory: recompute activations.
        dry_run: Say what the run would do, where it can be told its memory too, and do nothing.
        processes: Of --dry-run: devices that train together; if left out as many as were started.
        images: Of --dry-run: training images, where there is no --data to count them in.
    """
    if show_list:
        _print_recipes()
        return
    if recipe is None:
        raise UsageError("A recipe is missing: `foveal train --list` shows all of them.")
    settings = {
        "epochs": epochs,
        "epoch_steps": epoch_steps,
        "batch_size": batch_size,
        "device_batch_size": device_batch_size,
        "lr": lr,
        "warmup_epochs": warmup_epochs,
        "precision": precision,
        "workers": workers,
        "broken": broken,
        "save_steps": save_steps,
        "seed": seed,
        "compile": compile or None,
        "grad_checkpointing": grad_checkpointing or None,
    }
    chosen = _adapt(get_recipe(recipe), model, size, drop_path, settings)
    if dry_run:
        plan = plan_recipe(chosen, data, images=images, processes=started_processes(processes))
        check_drop_path(drop_path, plan.recipe)
        show_plan(plan, json)
        return
    if processes is not None or images is not None:
        raise UsageError("--processes and --images belong to --dry-run: training takes what is there.")
    folder = out or Path("runs") / recipe
    resume = resume or (requeue and (folder / LAST).exists())
    task = create_task(
        chosen,
        data,
        checkpoint=checkpoint,
        pretrained=pretrained,
        resumes=resume,
    )
    check_drop_path(drop_path, task.recipe)
    is_main = os.environ.get("RANK", "0") == "0"
    if is_main:
        _tell_notices(task.notices)
    outcome = _train(task, chosen.train, folder, resume, _listener(folder, tensorboard))
    if not is_main:
        return  # of several processes the main one answers
    if outcome.history:
        _draw(folder)
    if json:
        print_json({name: str(value) if isinstance(value, Path) else value for name, value in asdict(outcome).items()})
    else:
        _tell(recipe, data, outcome)


def _tell_notices(notices: Sequence[str]) -> None:
    for notice in notices:
        print(f"foveal: {notice}", file=sys.stderr)


def _listener(folder: Path, tensorboard: bool) -> Listener:
    shown = listener_for(sys.stderr)
    return Listeners([shown, TensorBoard(folder)]) if tensorboard else shown


def _draw(folder: Path) -> None:
    """The curves, where they can be drawn: a run that went well does not fail for want of a picture."""
    try:
        draw_curves(folder)
    except FovealError as error:
        print(f"No curves: {error}", file=sys.stderr)


def _train(task: Task, config: TrainConfig, folder: Path, resume: bool, listener: Listener) -> Outcome:
    last = folder / LAST
    try:
        outcome = fit(task, config, folder, listener=listener, resume=last if resume else None)
    except KeyboardInterrupt:
        saved = "the same command with --resume goes on where it was last saved"
        raise KeyboardInterrupt(f"Stopped: {saved if last.exists() else 'nothing was saved'}") from None
    leave_processes()
    return outcome


def _adapt(
    recipe: BaseRecipe, model: str | None, size: int | None, drop_path: float | None, settings: dict[str, Any]
) -> BaseRecipe:
    given = {name: value for name, value in settings.items() if value is not None}
    recipe = recipe.with_model(model or recipe.model).with_training(**given)
    if size is not None:
        recipe = recipe.with_size(size)
    return recipe if drop_path is None else replace(recipe, drop_path=drop_path)


def _print_recipes() -> None:
    recipes = list_recipes()
    rows = {recipe.name: recipe.summary for recipe in recipes}
    rows["finetune.MODEL"] = "any model of timm, fine-tuned on a folder of your own"
    width, columns = max(map(len, rows)), shutil.get_terminal_size().columns
    for name, summary in rows.items():
        lines = textwrap.wrap(summary, max(columns - width - 2, NARROWEST), break_on_hyphens=False)
        print(f"{name:<{width}}  " + f"\n{'':<{width}}  ".join(lines))


def _tell(recipe: str, data: Path | None, outcome: Outcome) -> None:
    if outcome.interrupted:
        print(
            f"Told to stop after update {outcome.updates}: everything is in {outcome.last_path}, and the same command "
            "with --resume goes on."
        )
        return
    if (outcome.last_path.parent / BROKEN).exists():
        print(f"Images that could not be read were skipped: {outcome.last_path.parent / BROKEN} names them.")
    print(
        f"Best {outcome.monitor} {outcome.best:.2f} % in epoch {outcome.best_epoch} of {outcome.epochs}, "
        f"{outcome.seconds:.0f} s; the weights are {outcome.best_path}."
    )
    words = ["foveal", "evaluate", recipe, "--checkpoint", str(outcome.best_path)]
    print(f"Evaluate them: {shlex.join(words if data is None else [*words, '--data', str(data)])}")
