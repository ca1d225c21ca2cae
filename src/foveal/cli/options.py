"""Options of commands: those that only some tasks take, those made from settings, and those of ``foveal evaluate`` and
``foveal predict`` with their checks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from foveal.cli.console import Json, UsageError
from foveal.errors import FovealError
from foveal.options import declarations
from foveal.tasks.classification.names import CorruptionName, Mode, SetName
from foveal.tasks.recipe import BaseRecipe
from foveal.tasks.registry import noun
from foveal.training.config import Broken, InferencePrecision

if TYPE_CHECKING:
    from foveal.models.weights_file import WeightsFile  # which imports PyTorch

TASKS = "tasks"  # metadata of an option's field


def only_for(*tasks: str) -> dict[str, tuple[str, ...]]:
    """Return metadata for a dataclass field: an option that only these tasks take."""
    return {TASKS: tasks}


def refuse_others(options: Any, task: str, who: str) -> None:
    """Raise UsageError for the first option that was given and that ``task`` does not take.

    Args:
        who: Subject of the sentence: "this file holds", or a name and "is".
    """
    for one in fields(options):
        tasks = one.metadata.get(TASKS)
        if tasks and task not in tasks and getattr(options, one.name) != one.default:
            takers = " and ".join(f"{noun(name)}s" for name in tasks)
            option = "--" + one.name.replace("_", "-")
            raise UsageError(f"{option} is for {takers}, and {who} a {noun(task)}: leave it out.")


def overrides_of(settings: type) -> type:
    """Return a dataclass with the options of ``settings``, each of which leaves the setting as it is unless given."""
    members: list[tuple[str, Any, Any]] = []
    for one in declarations(settings):
        if one.on_command_line:
            kind, default = (bool, False) if one.type is bool else (one.type | None, None)
            metadata = only_for(*one.tasks)
            members.append((one.name, Annotated[kind, arg(help=one.help)], field(default=default, metadata=metadata)))
    return make_dataclass(f"{settings.__name__}Overrides", members, frozen=True, kw_only=True)


def given(overrides: Any) -> dict[str, Any]:
    """Return the options of such a dataclass that were given, by name."""
    return {
        one.name: getattr(overrides, one.name)
        for one in fields(overrides)
        if getattr(overrides, one.name) != one.default
    }


def commands_of(kind: str) -> ModuleType:
    """Return the module of a task's ``evaluate(recipe, weights, options)``."""
    return import_module(f"foveal.cli.{kind}")


def predict_commands_of(kind: str) -> ModuleType:
    """Return the module of a task's ``predict(inputs, weights, recipe, options)`` and ``predict_exported(inputs,
    session, options)``, which return a ``Tally``."""
    return import_module(f"foveal.cli.predict_{kind}")


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """The options of ``foveal evaluate``.

    Attributes:
        checkpoint: File of weights: best.pt of a run, or released ones.
        pretrained: Evaluate the released weights of a classifier, downloaded from their public home, and show the
            authors' figures beside ours.
        data: Folder with val/<class>/, or in any layout that `foveal train` reads; the recipe's own images, if it has
            some. Other sets are folders in it, as their archives unpack: imagenet-a, imagenet-r, sketch,
            imagenetv2-matched-frequency-format-val, imagenet-c.
        set: Sets for a classifier, one or more of val, a (ImageNet-A), r, sketch, v2, c (mCE).
        model: Model of a classifier's file, if it differs from what the file or the recipe says.
        size: Side of the square images in pixels, one or more; the training size by default. For a detector one short
            side, for a segmenter the side of the training crops; all other sides are in proportion.
        mode: Modes of TransNeXt as a classifier, one or more; the network's own by default.
        multi_scale: For a classifier all modes at the sizes of TransNeXt's paper; --mode and --size select fewer. For a
            segmenter the mean over 0.5 to 1.75 times the size, and mirrored.
        corrupt: Measure a classifier's robustness on these images: its errors under the fifteen corruptions of
            ImageNet-C at five severities, computed on the fly.
        corruptions: For --corrupt: some of the corruptions; all by default.
        severities: For --corrupt: some of the severities from 1 to 5; all by default.
        pool_size: Linear mode of TransNeXt as a classifier: pool keys and values to this size for any image.
        window: For a segmenter: side of the sliding window in pixels; as in the recipe by default.
        stride: For a segmenter: distance between windows in pixels; two thirds of --window by default.
        whole: For a segmenter: use whole images instead of windows.
        flip: For a segmenter: average with the mirrored image.
        position_bias: For a segmenter with TransNeXt: how the position bias adapts to other image sizes; as in training
            by default.
        reference_size: For a segmenter with TransNeXt: side of the images that an interpolated position bias is
            computed for, before it is resized; as in training by default.
        mask_suffix: For a segmenter: what the name of a label map has after that of its image; as in training by
            default.
        split: Folder of --data that "val" means.
        paper: Show the authors' figures for a classifier also beside other weights or a part of the images.
        batch_size: Images per batch on each process: 64 for a classifier, 1 for a detector by default. For a segmenter
            windows of one image, 4 by default.
        workers: Loading processes per process.
        precision: Precision of the computation; int8 for the products of a classifier on a CPU (foveal.quantize).
        calibration_images: For int8: number of training images that fix the ranges of activations; 128 by default. If
            --data has no training images, they are drawn from those that are evaluated.
        optimize: Fold the network of a classifier for inference first, as foveal.optimize does.
        broken: What to do with a broken image: stop, or skip and count it.
        out: Folder for results.json, tables and pictures: accuracy by class, confusion, and the worst mistakes; for a
            classifier its calibration, for a detector its curves and detections, for a segmenter its worst images. An
            evaluation that is stopped goes on there with the same command; without this nothing is kept.
    """

    checkpoint: Path | None = None
    pretrained: bool = False
    data: Path | None = None
    set: tuple[SetName, ...] = field(default=("val",), metadata=only_for("classification"))
    model: str | None = field(default=None, metadata=only_for("classification"))
    size: tuple[int, ...] = ()
    mode: tuple[Mode, ...] = field(default=(), metadata=only_for("classification"))
    multi_scale: bool = field(default=False, metadata=only_for("classification", "segmentation"))
    corrupt: bool = field(default=False, metadata=only_for("classification"))
    corruptions: tuple[CorruptionName, ...] = field(default=(), metadata=only_for("classification"))
    severities: tuple[Literal[1, 2, 3, 4, 5], ...] = field(default=(), metadata=only_for("classification"))
    pool_size: int | None = field(default=None, metadata=only_for("classification"))
    window: int | None = field(default=None, metadata=only_for("segmentation"))
    stride: int | None = field(default=None, metadata=only_for("segmentation"))
    whole: bool = field(default=False, metadata=only_for("segmentation"))
    flip: bool = field(default=False, metadata=only_for("segmentation"))
    position_bias: Literal["interpolate", "extrapolate"] | None = field(default=None, metadata=only_for("segmentation"))
    reference_size: int | None = field(default=None, metadata=only_for("segmentation"))
    mask_suffix: str | None = field(default=None, metadata=only_for("segmentation"))
    split: str = "val"
    paper: bool = field(default=False, metadata=only_for("classification"))
    batch_size: int | None = None
    workers: int = 2
    precision: InferencePrecision = "fp32"
    calibration_images: int | None = field(default=None, metadata=only_for("classification"))
    optimize: bool = field(default=False, metadata=only_for("classification"))
    broken: Broken = "stop"
    out: Path | None = None
    json: Json = False


def check_options(options: EvaluateOptions) -> None:
    """Raise UsageError for options that do not fit together, whatever the recipe."""
    if options.checkpoint is None and not options.pretrained:
        raise UsageError(
            "Weights are missing: foveal evaluate --checkpoint FILE, or RECIPE --pretrained for the released ones."
        )
    if options.checkpoint is not None and options.pretrained:
        raise UsageError("--checkpoint and --pretrained both name the weights: pass one of them.")
    repeated: dict[str, tuple[Any, ...]] = {"--set": options.set, "--mode": options.mode}
    repeated |= {"--corruptions": options.corruptions, "--severities": options.severities}
    for option, values in repeated.items():
        if len(dict.fromkeys(values)) != len(values):
            raise UsageError(f"{option} names one of its values twice: name each once.")
    if not options.set:
        raise UsageError("--set names no set: name one, or leave it out.")
    if options.pool_size is not None and options.mode and "linear" not in options.mode:
        raise UsageError("--pool-size is for linear mode: add linear to --mode, or leave one of them out.")
    _check_corrupt(options)
    if options.whole and (options.window is not None or options.stride is not None):
        raise UsageError("--whole excludes --window and --stride: leave one or the other out.")
    if options.calibration_images is not None and options.precision != "int8":
        raise UsageError("--calibration-images is for --precision int8: add that, or leave it out.")
    check_least(
        ("--calibration-images", options.calibration_images, 1),
        ("--batch-size", options.batch_size, 1),
        ("--window", options.window, 1),
        ("--stride", options.stride, 1),
        ("--workers", options.workers, 0),
    )


def check_least(*limits: tuple[str, int | None, int]) -> None:
    """Raise UsageError for the first (option, number, least) whose number was given and is too small."""
    for option, number, least in limits:
        if number is not None and number < least:
            raise UsageError(f"{option} must be at least {least}, not {number}.")


def _check_corrupt(options: EvaluateOptions) -> None:
    """Raise UsageError for options that do not fit --corrupt, or need it."""
    if not options.corrupt:
        given = "--corruptions" if options.corruptions else "--severities" if options.severities else None
        if given is not None:
            raise UsageError(f"{given} is for --corrupt: add that, or leave it out.")
        return
    others = {
        "--set": options.set != ("val",),
        "--mode": bool(options.mode),
        "--multi-scale": options.multi_scale,
        "--paper": options.paper,
        "--precision int8": options.precision == "int8",
    }
    other = next((option for option, given in others.items() if given), None)
    if other is not None:
        raise UsageError(f"--corrupt and {other} exclude each other: leave one of them out.")
    if len(options.size) > 1:
        raise UsageError("--corrupt is for one --size: name one.")


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """The options of ``foveal predict``.

    Attributes:
        checkpoint: File of weights: best.pt of a run, or released ones. Also FILE.onnx or FILE.xml of foveal export.
        model: Model of a classifier's file without metadata, or the recipe of a released detector or segmenter
            (coco.NAME, ade20k.NAME).
        size: Side of the square that images are resized to, in pixels; the training size by default. For a detector
            their short side, for a segmenter the side of the training crops; other sides are in proportion.
        top_k: For a classifier: classes shown per image; by default 5, or all if there are fewer. With several labels
            per image all above 50 % by default.
        score: For a detector: lowest score that is shown, from 0 to 1; 0.5 by default.
        workers: Threads that read images while the network computes; 0 reads in between.
        every: For videos: predict on every N-th frame.
        out: For a classifier FILE.csv, FILE.json or FILE.jsonl with the classes of every image. Otherwise a folder for
            one picture per image, with detections.json in COCO's format for a detector, with label maps and
            label_maps.json for a segmenter. Pictures that the last run wrote there are removed.
        features: For a classifier: FILE.npy for the pooled feature of every image (N, C), in float32, with the names of
            the images in FILE.json.
    """

    checkpoint: Path
    model: str | None = None
    size: int | None = None
    top_k: int | None = field(default=None, metadata=only_for("classification"))
    score: float | None = field(default=None, metadata=only_for("detection"))
    workers: int = 2
    every: int | None = None
    out: Path | None = None
    features: Path | None = field(default=None, metadata=only_for("classification"))
    json: Json = False


def check_file(recipe: BaseRecipe, weights: "WeightsFile | None") -> "WeightsFile":
    """Return the file of weights. Raises UsageError if none is given, since there are none to download."""
    if weights is None:
        raise UsageError(f"{recipe.name} has no weights to download: pass the authors' file as --checkpoint.")
    return weights


def single_size(recipe: BaseRecipe, options: EvaluateOptions) -> int | None:
    """Return the given size, or None. Raises UsageError for several."""
    if len(options.size) > 1:
        raise UsageError(f"{recipe.name} is a {noun(recipe.kind)}, which is evaluated at one --size: name one.")
    return options.size[0] if options.size else None


def check_classes(recipe: BaseRecipe, known: Sequence[str], classes: Sequence[str], folder: Path) -> None:
    """Raise FovealError if the classes of a network are not those of the images."""
    for number, (own, other) in enumerate(zip_longest(known, classes, fillvalue="missing"), start=1):
        if own != other:
            raise FovealError(
                f"The {noun(recipe.kind)} knows {len(known)} classes and {folder} has {len(classes)}, of which number "
                f"{number} is {own} there and {other} here: pass the --data that it was trained on."
            )
