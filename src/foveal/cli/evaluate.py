"""``foveal evaluate``: how good a classifier is, on one or several sets, sizes and modes; or a detector."""

from pathlib import Path
from typing import Annotated, Any, cast

from tyro.conf import Positional, arg

from foveal.cli.console import Json, UsageError
from foveal.cli.evaluate_classification import evaluate_classifier
from foveal.cli.evaluate_detection import evaluate_on_coco
from foveal.tasks.classification.evaluate import Inference
from foveal.tasks.classification.imagenet.sets import SetName
from foveal.tasks.classification.modes import Mode
from foveal.tasks.classification.recipe import Recipe
from foveal.tasks.detection.recipe import DetectionRecipe
from foveal.tasks.recipes import get_recipe
from foveal.training.config import Broken, Precision


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
    batch_size: int | None = None,
    workers: int = 2,
    precision: Precision = "fp32",
    optimize: bool = False,
    broken: Broken = "stop",
    out: Path | None = None,
    json: Json = False,
) -> None:
    """How good trained weights are: top-1 and top-5 of a classifier, also on the sets that measure robustness; average
    precision of a detector's boxes and masks.

    A file of foveal train says itself which model, classes and image treatment it has; for released weights the recipe
    does. Under torchrun or accelerate launch the processes share the images, each taken once. A detector takes no
    --set, --mode, --multi-scale, --pool-size, --pretrained, --paper, --model or --optimize.

    Args:
        recipe: Name of the recipe.
        checkpoint: File with the weights: best.pt of a run, or released ones.
        pretrained: The released weights, downloaded from their public home; their authors' figures stand beside ours.
        data: Folder with val/<class>/, or in COCO's layout; the recipe's own images if it has some. Other sets lie in
            it as their archives unpack: imagenet-a, imagenet-r, sketch, imagenetv2-matched-frequency-format-val,
            imagenet-c.
        sets: Sets to evaluate on, one or more: val, a (ImageNet-A), r, sketch, v2, c (mCE).
        model: Model in the file, where neither the file nor the recipe says it right.
        size: Side of the square images in pixels, one or more; that of training if left out. Of a detector the short
            side, one.
        mode: Modes of TransNeXt, one or more; the network's own if left out.
        multi_scale: All modes that the network has, at the sizes of TransNeXt's paper; --mode and --size choose fewer.
        pool_size: Linear mode of TransNeXt: pool keys and values to this size whatever the image's.
        split: Folder of --data that "val" means.
        paper: Show the authors' figures for the recipe's model also beside other weights or a part of the images.
        batch_size: Images at a time, on each process; 64 of a classifier, 1 of a detector if left out.
        workers: Loading processes beside each process.
        precision: What the network computes in.
        optimize: Fold the network for inference first, as foveal.optimize does.
        broken: What a broken image does: stop the evaluation, or be left out and counted.
        out: Folder for results.json and, of several sizes or ImageNet-C, a picture; of a detector, what it found in
            COCO's format, curves, and examples beside their annotations.
    """
    _check(checkpoint, pretrained, sets, mode, pool_size, batch_size, workers)
    chosen = get_recipe(recipe)
    if isinstance(chosen, DetectionRecipe):
        others = {
            "--set": sets != ("val",),
            "--mode": mode,
            "--multi-scale": multi_scale,
            "--pool-size": pool_size is not None,
            "--paper": paper,
            "--model": model is not None,
            "--optimize": optimize,
        }
        _refuse(recipe, [option for option, given in others.items() if given])
        if checkpoint is None:
            raise UsageError(f"{recipe} has no weights to download: pass the authors' file as --checkpoint.")
        if len(size) > 1:
            raise UsageError(f"{recipe} is a detector, which is evaluated at one --size: name one.")
        evaluate_on_coco(
            chosen,
            checkpoint,
            data,
            split=split,
            size=size[0] if size else None,
            batch_size=batch_size or 1,
            workers=workers,
            precision=precision,
            broken=broken,
            out=out,
            json=json,
        )
        return
    evaluate_classifier(
        cast(Recipe, chosen),
        checkpoint,
        data,
        sets=sets,
        model=model,
        sizes=size,
        modes=mode,
        multi_scale=multi_scale,
        pool_size=pool_size,
        split=split,
        paper=paper,
        inference=Inference(batch_size or 64, workers, None, None, precision, optimize, broken),
        out=out,
        json=json,
    )


def _refuse(recipe: str, options: list[str]) -> None:
    if options:
        raise UsageError(f"{options[0]} is for classifiers, and {recipe} is a detector: leave it out.")


def _check(
    checkpoint: Path | None,
    pretrained: bool,
    sets: tuple[Any, ...],
    modes: tuple[Any, ...],
    pool_size: int | None,
    batch_size: int | None,
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
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"--batch-size must be at least 1, not {batch_size}.")
    if workers < 0:
        raise UsageError(f"--workers must be at least 0, not {workers}.")
