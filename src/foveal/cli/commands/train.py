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
        no_report: Write no report.html at the end.
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
    --resume), run.json (how it began), metrics.jsonl (one line per epoch), steps.jsonl (one line every few updates)
    and, at the end, curves.png and report.html: curves, figures by class, right and wrong examples, settings.
    On SIGTERM and Ctrl-C the current update ends and the run is saved; the exit code is 0 after SIGTERM and 130 after
    Ctrl-C.
    """
    if options.show_list:
        _print_recipes(options.json)
        return
    if options.recipe is None:
        raise UsageError("A recipe is missing: `foveal train --list` shows all of them.")
    check_recipe(options.recipe)
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
