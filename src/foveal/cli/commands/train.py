"""The options of ``foveal train``, and the list of recipes."""

import shutil
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from tyro.conf import Positional, arg

from foveal.cli.console import Json, UsageError, print_json
from foveal.cli.lists import FAMILIES, check_recipe, recipes
from foveal.cli.options import only_for, overrides_of
from foveal.cli.paths import check_checkpoint, check_data
from foveal.cli.run_options import completed
from foveal.cli.signature import options_of
from foveal.tasks.classification.names import Strength
from foveal.tasks.recipe import check_one_start
from foveal.training.config import TrainConfig

ABLATIONS = "ablation.TABLE.ROW"
OF_ABLATIONS = (
    "a row of a paper's ablation, small on the digits, or whole on the images of --data; `foveal ablate` lists the "
    "tables, and `foveal ablate TABLE --dry-run` the rows"
)
NARROWEST = 24  # columns of a summary
Overrides: TypeAlias = overrides_of(TrainConfig)  # type: ignore[valid-type]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The run: what is trained, on which images, and where.

    Attributes:
        recipe: Name of the recipe; photos.MODEL or finetune.MODEL for any model on your own images, finetune.HEAD_MODEL
            for any detector or segmenter.
        show_list: List all recipes.
        config: File of options in TOML, such as the run.toml of a run, which is repeated with it; what is typed beside
            it counts.
        data: Folder with train/<class>/ and val/<class>/, or with train.csv and val.csv for several labels per image,
            ImageNet as extracted, tar shards, or a Hugging Face dataset (hf:NAME); for a detector COCO's layout, YOLO's
            labels, or an export of Roboflow, CVAT or Label Studio; for a segmenter images/ and masks/, ADE20K's layout,
            or an export of Roboflow or CVAT.
        model: Another model of timm or foveal.
        checkpoint: File of weights to start from; for a detector or segmenter its own or its backbone's. Layers for
            other classes are newly initialised.
        pretrained: Start from the released weights (of the backbone for a detector or segmenter), which are downloaded.
        out: Folder of the run; runs/RECIPE if left out.
        resume: Continue the run in --out, or in runs/RECIPE, from its last save, with the options that it was started
            with. More --epochs make it longer.
        requeue: Like --resume if --out holds a run, otherwise start one: for schedulers that restart jobs.
        size: Side of the square images in pixels; for a detector the short side, for a segmenter the side of the crops,
            with all other sides in proportion.
        drop_path: Stochastic depth rate of the last block.
        augment: For a classifier: strength of the random crops, colours and erasing; as in the recipe by default.
        mixup: For a classifier: alpha of mixup; 0 for none.
        cutmix: For a classifier: alpha of CutMix; 0 for none.
        label_smoothing: For a classifier: share of the targets that is spread over all classes; 0 for none.
        mask_suffix: For a segmenter: what the name of a label map has after that of its image: _mask for a_mask.png.
        zero: For a segmenter: whether 0 in label maps is the first class, or ignored and 1 the first class, as in
            ADE20K; as in the recipe by default.
        track: Trackers that also get the numbers of the run: tensorboard, wandb or mlflow, or several with commas in
            between, as tensorboard,wandb.
        tensorboard: The same as --track tensorboard.
        no_report: Write no report.html at the end.
        dry_run: Show what the run would do, with an estimate of its memory if possible, and do nothing.
        processes: With --dry-run: number of devices; by default, as many as were started.
        images: With --dry-run: number of training images, if there is no --data to count.
    """

    recipe: Annotated[Positional[str | None], arg(metavar="RECIPE")] = None
    show_list: Annotated[bool, arg(name="list")] = False
    config: Path | None = None
    data: Path | None = None
    model: str | None = None
    checkpoint: Path | None = None
    pretrained: bool = False
    out: Path | None = None
    resume: bool = False
    requeue: bool = False
    size: int | None = None
    drop_path: float | None = None
    augment: Strength | None = field(default=None, metadata=only_for("classification"))
    mixup: float | None = field(default=None, metadata=only_for("classification"))
    cutmix: float | None = field(default=None, metadata=only_for("classification"))
    label_smoothing: float | None = field(default=None, metadata=only_for("classification"))
    mask_suffix: str | None = field(default=None, metadata=only_for("segmentation"))
    zero: Literal["class", "ignored"] | None = field(default=None, metadata=only_for("segmentation"))
    track: str | None = None
    tensorboard: bool = False
    no_report: bool = False
    dry_run: bool = False
    processes: int | None = None
    images: int | None = None
    json: Json = False

    @property
    def folder(self) -> Path:
        return self.out or Path("runs") / str(self.recipe)


def main(
    options: Annotated[RunOptions, arg(name="")],
    settings: Annotated[Overrides, arg(name="")],  # type: ignore[valid-type]
) -> None:
    """Train or fine-tune a model by a recipe; under torchrun or accelerate launch on many GPUs and machines.

    Settings that are left out are the recipe's. The folder of the run gets best.pt (the best weights), last.pt (for
    --resume), run.toml (these options, for --config), run.json (how it began), metrics.jsonl (one line per epoch),
    steps.jsonl (one line every few updates) and, at the end, curves.png and report.html: curves, figures by class,
    right and wrong examples, settings.
    On SIGTERM and Ctrl-C the current update ends and the run is saved; the exit code is 0 after SIGTERM and 130 after
    Ctrl-C.
    """
    if options.show_list:
        _print_recipes(options.json)
        return
    options, settings = completed(options, settings, options_of(main))
    if options.recipe is None:
        raise UsageError("A recipe is missing: `foveal train --list` shows all of them.")
    check_recipe(options.recipe)
    check_one_start(options.checkpoint, options.pretrained)
    if not (options.resume or options.requeue):  # a run that goes on has its weights
        check_checkpoint(options.checkpoint)
    check_data(options.data)
    from foveal.cli.train import run

    run(options, settings)


def _print_recipes(as_json: bool) -> None:
    """List the recipes; those of ablations, of which there are many, by name in a document only."""
    rows = {one.name: one.summary for one in recipes() if as_json or not one.is_ablation}
    rows |= FAMILIES if as_json else {ABLATIONS: OF_ABLATIONS, **FAMILIES}
    if as_json:
        print_json([{"name": name, "summary": summary} for name, summary in rows.items()])
        return
    width, columns = max(map(len, rows)), shutil.get_terminal_size().columns
    for name, summary in rows.items():
        lines = textwrap.wrap(summary, max(columns - width - 2, NARROWEST), break_on_hyphens=False)
        print(f"{name:<{width}}  " + f"\n{'':<{width}}  ".join(lines))
