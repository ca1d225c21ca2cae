"""A training plan as text: the output of ``foveal train --dry-run``."""

import os
import textwrap
from collections.abc import Iterator
from itertools import groupby

from foveal.cli.console import print_json
from foveal.options import declarations
from foveal.tasks.classification.recipe import Recipe
from foveal.tasks.plan import TrainingPlan
from foveal.training.config import TrainConfig
from foveal.training.dry_run import FROZEN, LISTED, RULES, DryRun, PlannedParameter
from foveal.training.footprint import Footprint
from foveal.training.optimiser import learning_rates
from foveal.wording import in_units, many

LABEL, WIDTH = 15, 80  # columns: of the label of a line, and of a line
FALLING = {"cosine": "cosine", "poly": "polynomial"}  # schedules that fall throughout
MOST_ROWS = 9  # of a table; the middle of a longer one is left out


def started_processes(asked: int | None) -> int:
    """Return ``asked``, or the number of processes that torchrun or accelerate launch started."""
    return int(os.environ.get("WORLD_SIZE", 1)) if asked is None else asked


def show_plan(plan: TrainingPlan, as_json: bool) -> None:
    """Print a plan."""
    if as_json:
        print_json(plan.document())
    else:
        print("\n".join(_lines(plan)))


def _lines(plan: TrainingPlan) -> Iterator[str]:
    yield plan.recipe.name
    yield from textwrap.wrap(plan.recipe.summary, WIDTH)
    yield ""
    for label, text in _facts(plan):
        yield f"{label:<{LABEL}}{text}"
    if isinstance(plan.recipe, Recipe):
        yield from _labelled("augmentation", str(plan.recipe.augment))
    if plan.start is not None:
        yield from _labelled("starts from", plan.start.planned)
    for notice in plan.run.notices:
        yield from _labelled("note", notice)
    yield ""
    yield from _settings(plan.run.config)
    yield from _decay_table(plan.run)
    if plan.run.config.layer_decay or plan.run.config.lr_factors:
        yield ""
        yield from _rate_factors(plan.run)
    yield ""
    yield from _rate_table(plan.run)
    yield ""
    if plan.run.memory is None:
        yield "Memory is not estimated: it depends on the images and on the objects in them."
    else:
        yield from _memory_table(plan.run.memory, plan.run.batching.device)
    yield ""
    yield "Nothing was decoded or written. --json lists every parameter and every epoch."


def _labelled(label: str, sentence: str) -> list[str]:
    """Return the lines of a sentence; paths stay whole."""
    return textwrap.wrap(
        sentence,
        WIDTH,
        initial_indent=f"{label:<{LABEL}}",
        subsequent_indent=" " * LABEL,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _facts(plan: TrainingPlan) -> Iterator[tuple[str, str]]:
    recipe, run, config = plan.recipe, plan.run, plan.run.config
    height, width = plan.network.size
    classes = many(plan.images.classes, "class", "classes")
    yield "model", f"{recipe.model}, {in_units(plan.network.params, 1e6)} M parameters, {classes}"
    macs = "" if plan.network.macs is None else f", {in_units(plan.network.macs, 1e9)} G multiply-adds forward"
    yield "image", f"{height} x {width} pixels{macs}"
    if plan.network.sides is not None:
        yield "trained on", plan.network.sides
    if recipe.starts_from_weights and plan.start is None:
        yield "starts from", "trained weights: --checkpoint FILE or --pretrained"
    yield "training set", f"{many(plan.images.count, 'image')} ({plan.images.source})" + _views(plan.network.views)
    cut = run.batching
    yield (
        "batch",
        (
            f"{cut.effective:,} = {many(cut.processes, 'process', 'processes')} x {many(cut.device, 'image')} "
            f"x {many(cut.accumulation, 'pass', 'passes')}"
        ),
    )
    cooldown = f" + {config.cooldown_epochs}" if config.cooldown_epochs else ""
    epochs = f"{config.epochs}{cooldown} epoch{'s' * (config.total_epochs != 1)}"
    yield "length", f"{epochs} of {many(run.steps_per_epoch, 'update')}: {run.steps:,} in all"
    if config.epoch_steps is not None:
        passes = run.steps * cut.effective / run.images
        yield "", f"{passes:,.{0 if passes >= 10 else 1}f} passes over the training set"
    if run.filled:
        yield "", f"the last batch of an epoch is filled with {run.filled:,} of the next pass"
    yield "optimiser", _optimiser(run)
    drop = f", drop path {recipe.drop_path:g}" if recipe.drop_path else ""
    average = f", average of weights {config.ema_decay:g}" if config.ema_decay else ""
    yield "precision", f"{config.precision}{drop}{average}" + (", synchronised batch norm" if config.sync_bn else "")


def _settings(config: TrainConfig) -> Iterator[str]:
    """Yield every setting that is not the default, under the name of its option if it has one."""
    rows = [(one, getattr(config, one.name)) for one in declarations(TrainConfig)]
    changed = {one.flag if one.on_command_line else one.name: value for one, value in rows if value != one.default}
    if not changed:
        return
    yield "settings that differ from the defaults"
    width = max(map(len, changed)) + 4
    for name, value in changed.items():
        yield from textwrap.wrap(
            str(value),
            WIDTH,
            initial_indent=f"  {name:<{width - 2}}",
            subsequent_indent=" " * width,
            break_long_words=False,
        )
    yield ""


def _views(repeats: int) -> str:
    return f"; {repeats} views of 1/{repeats} per epoch" if repeats > 1 else ""


def _optimiser(run: DryRun) -> str:
    config = run.config
    clip = f", gradients clipped to a norm of {config.clip_norm:g}" if config.clip_norm else ""
    return f"{config.optimizer}, weight decay {config.weight_decay:g}{clip}"


def _decay_table(run: DryRun) -> Iterator[str]:
    yield f"{'parameters':<34}{'tensors':>9}{'numbers':>14}{'weight decay':>15}"
    for rule in RULES:
        members = [p for p in run.parameters if p.rule == rule]
        for decay in sorted({p.weight_decay for p in members}):
            yield _row(f"  {rule}", [p for p in members if p.weight_decay == decay], f"{decay:g}")
    words = sorted({_word(p.name) for p in run.parameters if p.rule == LISTED})
    if words:
        yield from textwrap.wrap(f"({', '.join(words)})", WIDTH, initial_indent="  ", subsequent_indent="  ")


def _word(name: str) -> str:
    """Return the module of a parameter: ``cpb_fc1`` for ``...attn.cpb_fc1.weight``."""
    return name.removesuffix(".weight").removesuffix(".bias").rpartition(".")[2]


def _rate_factors(run: DryRun) -> Iterator[str]:
    decay = run.config.layer_decay
    title = f"layers (each {decay:g} of the next)" if decay else "learning rates"
    yield f"{title:<34}{'tensors':>9}{'numbers':>14}{'rate x':>15}"
    ordered = sorted((p for p in run.parameters if p.rule != FROZEN), key=lambda p: p.lr_scale)
    rows = [
        _row(f"  {_span(members)}", members, f"{scale:.3g}")
        for scale, members in ((s, list(group)) for s, group in groupby(ordered, key=lambda p: p.lr_scale))
    ]
    yield from _shortened(rows)


def _span(members: list[PlannedParameter]) -> str:
    """Return the common prefix of the names of a layer's parameters."""
    paths = [p.name.replace(".", "/") for p in members]
    return os.path.commonpath(paths).replace("/", ".") or "others"


def _row(label: str, members: list[PlannedParameter], last: str) -> str:
    return f"{label:<34}{len(members):>9,}{sum(p.count for p in members):>14,}{last:>15}"


def _shortened(rows: list[str]) -> list[str]:
    if len(rows) <= MOST_ROWS:
        return rows
    half = MOST_ROWS // 2
    return [*rows[:half], f"  ... {len(rows) - 2 * half} more ...", *rows[-half:]]


def _rate_table(run: DryRun) -> Iterator[str]:
    yield f"{'learning rate (' + run.config.schedule + ')':<34}{'epochs done':>12}{'updates done':>14}{'rate':>12}"
    for label, epoch in _moments(run):
        update = min(round(epoch * run.steps_per_epoch), run.steps - 1)
        [rate] = learning_rates(run.config, run.steps_per_epoch, [update])
        yield f"  {label:<32}{epoch:>12,.3g}{update:>14,}{rate:>12.3e}"


def _moments(run: DryRun) -> list[tuple[str, float]]:
    """Return the moments at which the schedule changes, in epochs, and the quarters of its fall."""
    config = run.config
    moments: dict[float, str] = {}
    if config.schedule in FALLING:
        for quarter in (3, 2, 1):
            moments[config.epochs * quarter / 4] = f"{quarter}/4 of the {FALLING[config.schedule]}"
    for milestone in config.milestones:
        moments[milestone] = f"times {config.decay_rate:g}"
    moments[0] = "first update"
    warmup = config.warmup_epochs if config.warmup_steps is None else config.warmup_steps / run.steps_per_epoch
    if 0 < warmup < config.epochs:
        moments[warmup] = "warm-up over"
    if config.cooldown_epochs:
        moments[config.epochs] = f"{FALLING.get(config.schedule, config.schedule)} over"
    moments[config.total_epochs] = "last update"
    return [(label, epoch) for epoch, label in sorted(moments.items())]


def _memory_table(memory: Footprint, images: int) -> Iterator[str]:
    yield f"{'memory per device, estimated':<34}{'MiB':>9}"
    rows = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "buckets to exchange gradients": memory.exchange,
        "optimiser": memory.optimizer,
        "moving average": memory.average,
        f"activations of {many(images, 'image')}": memory.activations,
        "total": memory.total,
    }
    for label, size in rows.items():
        if size:
            yield f"  {label:<32}{size / 2**20:>9,.0f}"
