"""``foveal train``: train or fine-tune by a recipe."""

import os
import shlex
import shutil
import sys
import textwrap
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from tyro.conf import Positional, arg

from foveal.cli.console import Json, UsageError, print_json, show_notices
from foveal.cli.options import given, only_for, overrides_of, refuse_others
from foveal.cli.plan import show_plan, started_processes
from foveal.errors import FovealError
from foveal.report.chart_training import draw_curves
from foveal.tasks.recipe import BaseRecipe, check_drop_path
from foveal.tasks.recipes import create_task, get_recipe, list_ablations, list_recipes, plan_recipe
from foveal.training import Outcome, fit
from foveal.training.config import TrainConfig
from foveal.training.journal import BROKEN, LAST
from foveal.training.listener import Listener, Listeners, over_classes
from foveal.training.processes import leave_processes
from foveal.training.progress import TensorBoard, listener_for
from foveal.training.task import Task

NARROWEST = 24  # columns of a summary
Overrides: TypeAlias = overrides_of(TrainConfig)  # type: ignore[valid-type]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The run: what is trained, on which images, and where.

    Attributes:
        recipe: Name of the recipe; photos.MODEL or finetune.MODEL for any model on your own images.
        show_list: List all recipes.
        data: Folder with train/<class>/ and val/<class>/, ImageNet as extracted, tar shards, or a Hugging Face dataset
            (hf:NAME); for a detector COCO's layout, YOLO's labels, or an export of Roboflow, CVAT or Label Studio; for
            a segmenter images/ and masks/, ADE20K's layout, or an export of Roboflow or CVAT.
        model: Another model of timm or foveal.
        checkpoint: File of weights to start from; for a detector or segmenter its own or its backbone's. Layers for
            other classes are newly initialised.
        pretrained: Start from the released weights (of the backbone for a detector or segmenter), which are downloaded.
        out: Folder of the run; runs/RECIPE if left out.
        resume: Continue the run in --out from its last save.
        requeue: Like --resume if --out holds a run, otherwise start one: for schedulers that restart jobs.
        size: Side of the square images in pixels; for a detector the short side, for a segmenter the side of the crops,
            with all other sides in proportion.
        drop_path: Stochastic depth rate of the last block.
        mask_suffix: For a segmenter: what the name of a label map has after that of its image: _mask for a_mask.png.
        zero: For a segmenter: whether 0 in label maps is the first class, or ignored and 1 the first class, as in
            ADE20K; as in the recipe by default.
        tensorboard: Also write TensorBoard event files.
        dry_run: Show what the run would do, with an estimate of its memory if possible, and do nothing.
        processes: With --dry-run: number of devices; by default, as many as were started.
        images: With --dry-run: number of training images, if there is no --data to count.
    """

    recipe: Annotated[Positional[str | None], arg(metavar="RECIPE")] = None
    show_list: Annotated[bool, arg(name="list")] = False
    data: Path | None = None
    model: str | None = None
    checkpoint: Path | None = None
    pretrained: bool = False
    out: Path | None = None
    resume: bool = False
    requeue: bool = False
    size: int | None = None
    drop_path: float | None = None
    mask_suffix: str | None = field(default=None, metadata=only_for("segmentation"))
    zero: Literal["class", "ignored"] | None = field(default=None, metadata=only_for("segmentation"))
    tensorboard: bool = False
    dry_run: bool = False
    processes: int | None = None
    images: int | None = None
    json: Json = False

    @property
    def folder(self) -> Path:
        return self.out or Path("runs") / str(self.recipe)

    @property
    def resumes(self) -> bool:
        return self.resume or (self.requeue and (self.folder / LAST).exists())


def main(
    options: Annotated[RunOptions, arg(name="")],
    settings: Annotated[Overrides, arg(name="")],  # type: ignore[valid-type]
) -> None:
    """Train or fine-tune a model by a recipe; under torchrun or accelerate launch on many GPUs and machines.

    Settings that are left out are the recipe's. The folder of the run gets best.pt (the best weights), last.pt (for
    --resume), run.json (how it began), metrics.jsonl (one line per epoch), steps.jsonl (one line every few updates)
    and, at the end, curves.png.
    On SIGTERM and Ctrl-C the current update ends and the run is saved; the exit code is 0 after SIGTERM and 130 after
    Ctrl-C.
    """
    if options.show_list:
        _print_recipes(options.json)
        return
    if options.recipe is None:
        raise UsageError("A recipe is missing: `foveal train --list` shows all of them.")
    recipe = get_recipe(options.recipe, own_images=options.data is not None)
    refuse_others(options, recipe.kind, f"{options.recipe} is")
    recipe = _adapted(recipe, options, given(settings))
    if options.dry_run:
        _show_plan(recipe, options)
        return
    if options.processes is not None or options.images is not None:
        raise UsageError("--processes and --images belong to --dry-run: leave them out.")
    _run(recipe, options)


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


def _run(recipe: BaseRecipe, options: RunOptions) -> None:
    resumes = options.resumes
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
        _draw(options.folder)
    if options.json:
        document = asdict(outcome)
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in document.items()}
        print_json({**plain, "notices": list(task.notices)})
    else:
        _report(options, outcome)


def _listener(folder: Path, tensorboard: bool) -> Listener:
    shown = listener_for(sys.stderr)
    return Listeners([shown, TensorBoard(folder)]) if tensorboard else shown


def _draw(folder: Path) -> None:
    """Draw the curves if possible: a successful run does not fail for lack of matplotlib."""
    try:
        draw_curves(folder)
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


def _print_recipes(as_json: bool) -> None:
    rows = {recipe.name: recipe.summary for recipe in list_recipes()}
    if as_json:
        rows |= {recipe.name: recipe.summary for recipe in list_ablations()}
    else:
        rows["ablation.TABLE.ROW"] = (
            "a row of a paper's ablation, small on the digits, or whole on the images of --data; `foveal ablate` lists "
            "the tables, and `foveal ablate TABLE --dry-run` the rows"
        )
    rows["photos.MODEL"] = "any model of timm on your own photographs, with settings that follow from their number"
    rows["finetune.MODEL"] = "any model of timm, fine-tuned on your own folder of images"
    if as_json:
        print_json([{"name": name, "summary": summary} for name, summary in rows.items()])
        return
    width, columns = max(map(len, rows)), shutil.get_terminal_size().columns
    for name, summary in rows.items():
        lines = textwrap.wrap(summary, max(columns - width - 2, NARROWEST), break_on_hyphens=False)
        print(f"{name:<{width}}  " + f"\n{'':<{width}}  ".join(lines))


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
    headline = f"Best {outcome.monitor} {outcome.best:.2f} %{over_classes(best)}"
    print(
        f"{headline} in epoch {outcome.best_epoch} of {outcome.epochs}, "
        f"{outcome.seconds:.0f} s; weights saved to {outcome.best_path}."
    )
    words = ["foveal", "evaluate", str(options.recipe), "--checkpoint", str(outcome.best_path)]
    print(f"Evaluate them: {shlex.join(words if options.data is None else [*words, '--data', str(options.data)])}")
