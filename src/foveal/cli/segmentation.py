"""``foveal evaluate`` with segmenters: mean IoU, and the IoU of every class."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from torch import Tensor

from foveal.cli.console import UsageError, columns, print_json, progress, say, show_notices
from foveal.cli.kept import going_on, kept_parts, notices_of
from foveal.cli.options import EvaluateOptions, check_classes, check_file, single_size
from foveal.models.weights_file import WeightsFile
from foveal.report.evaluation_segmentation import choose_examples, worst_examples, write_details, write_evaluation
from foveal.tasks.finished import Finished, Middle, files_digest
from foveal.tasks.listing import few
from foveal.tasks.segmentation.data import LabelledImages, open_split, survey
from foveal.tasks.segmentation.evaluate import SegmentationEvaluation, evaluate_segmenter
from foveal.tasks.segmentation.inference import MULTI_SCALE, Inference, label_map
from foveal.tasks.segmentation.recipes import SegmentationRecipe
from foveal.tasks.segmentation.task import SegmentationTask, TrainedSegmenter
from foveal.training.loading import evaluation_loader
from foveal.training.processes import Processes, check_precision, leave_processes, start_processes
from foveal.wording import many, title

OVERALL = ("miou", "macc", "aacc")
LONGEST_NAME, IOU, ACCURACY, GAP = 22, 6, 8, 3  # columns of text: of a class's name, its figures, between classes
Row = tuple[str, float | None, float | None]


def evaluate(recipe: SegmentationRecipe, weights: WeightsFile | None, options: EvaluateOptions) -> None:
    """Evaluate the segmenter in a file and print mean IoU and the IoU of each class."""
    file, size = check_file(recipe, weights), single_size(recipe, options)
    known = SegmentationTask.restore(
        file, recipe, size=size, position_bias=options.position_bias, reference_size=options.reference_size
    )
    known = replace(known, inference=adapt_inference(known.inference, options))
    folder = SegmentationTask.data_folder(recipe, options.data)
    suffix = known.mask_suffix if options.mask_suffix is None else options.mask_suffix
    images = open_split(
        folder, options.split, zero_ignored=known.zero_ignored, mask_suffix=suffix, held_out=known.held_out
    )
    check_classes(recipe, known.classes, images.classes, folder)
    survey(images, options.broken)
    processes = start_processes()
    check_precision(options.precision, processes.device)
    finished = _kept(known, images, file, options, processes)
    with going_on(options.out):
        evaluation = _evaluate(known, images, options, processes, finished.middle())
    images.conclude(processes)
    leave_processes()
    if not processes.is_main:
        finished.remove()
        return
    notices = [*images.notices, *(f"{name} could not be read and was left out." for name in evaluation.broken)]
    show_notices([*notices_of(finished), *notices])
    document = _document(recipe, known, folder, options, images, evaluation) | {"notices": notices}
    if options.json:
        print_json(document)
    else:
        print_evaluation(evaluation, known.name, known.inference)
    if options.out is not None:  # last, so that a full disk costs no answer

        def segment(image: Tensor) -> Tensor:
            with processes.autocast(options.precision):
                return label_map(known.model, image.to(processes.device), known.inference)

        examples = choose_examples(images, evaluation, segment)
        write_evaluation(options.out, document, evaluation, examples, known.name)
        write_details(options.out, evaluation, images, worst_examples(images, evaluation, segment))
    finished.remove()


def _kept(
    known: TrainedSegmenter, images: LabelledImages, file: WeightsFile, options: EvaluateOptions, processes: Processes
) -> Finished:
    if options.out is None:
        return Finished(processes=processes)
    facts = {"task": "segmentation", "inference": asdict(known.inference), "zero_ignored": known.zero_ignored}
    facts |= {"size": options.size, "bias": [options.position_bias, options.reference_size]}
    facts |= {"images": files_digest([*images.paths, *images.label_paths])}
    return kept_parts(options, file, known.model, processes, **facts)


def adapt_inference(usual: Inference, options: EvaluateOptions) -> Inference:
    """Return the settings of the recipe, changed as the options say.

    Raises:
        UsageError: --stride without windows.
        FovealError: numbers that do not fit together.
    """
    changes: dict[str, Any] = {}
    if options.whole:
        changes |= {"window": None, "stride": None}
    if options.window is not None:
        changes |= {"window": options.window, "stride": max(1, round(options.window * 2 / 3))}
    if options.stride is not None:
        if options.window is None and usual.window is None:
            raise UsageError(
                "--stride is the distance between windows, and images are not cut into windows: pass --window as well."
            )
        changes |= {"stride": options.stride}
    if options.multi_scale:
        scales = tuple(own * scale for own in usual.scales for scale in MULTI_SCALE.scales)
        changes |= {"scales": scales, "flip": MULTI_SCALE.flip}
    if options.flip:
        changes |= {"flip": True}
    if options.batch_size is not None:
        changes |= {"windows_at_once": options.batch_size}
    return replace(usual, **changes)


def _evaluate(
    known: TrainedSegmenter, images: LabelledImages, options: EvaluateOptions, processes: Processes, middle: Middle
) -> SegmentationEvaluation:
    start = middle.started
    loader = evaluation_loader(images, 1, processes.share, options.workers, broken=options.broken, start=start)
    model = known.model.to(processes.device)
    with processes.autocast(options.precision), progress("Evaluating", shown=processes.is_main) as on_batch:
        return evaluate_segmenter(
            model, loader, known.classes, known.inference, processes, on_batch=on_batch, middle=middle
        )


def _document(
    recipe: SegmentationRecipe,
    known: TrainedSegmenter,
    folder: Path,
    options: EvaluateOptions,
    images: LabelledImages,
    evaluation: SegmentationEvaluation,
) -> dict[str, Any]:
    return {
        "recipe": recipe.name,
        "model": known.name,
        "checkpoint": str(options.checkpoint),
        "data": str(folder),
        "split": options.split,
        "set": images.set_name,
        "folders": {"images": str(images.folders.images), "label_maps": str(images.folders.labels)},
        "precision": options.precision,
        "inference": asdict(known.inference),
        "position_bias": options.position_bias,
        "reference_size": options.reference_size,
        "results": evaluation.document,
    }


def print_evaluation(evaluation: SegmentationEvaluation, title: str, inference: Inference) -> None:
    """Print overall figures, then those of each class, the best first, in as many columns as the terminal fits."""
    console = Console(highlight=False)
    images = many(evaluation.images, "image")
    speed = f"{evaluation.images_per_second:.1f} images/s"
    say(f"{title}, {images}, {speed}; figures in percent")
    say(describe(inference))
    console.print(_overall(evaluation))
    if evaluation.absent:
        say(_absent(evaluation))
    console.print(_by_class(evaluation, console.width))


def describe(inference: Inference) -> str:
    """Return a sentence about how images were presented."""
    short, scales = inference.short, inference.scales
    size = "in their own size" if short is None else f"with short side {short:,}"
    parts = [f"Images {size}, long side at most {inference.long:,}"]
    if inference.window is not None:
        parts.append(f"windows of {inference.window:,} every {inference.stride:,}")
    if len(scales) > 1:
        parts.append(f"{len(scales)} scales, {min(scales):g} to {max(scales):g}")
    elif scales != (1.0,):
        parts.append(f"times {scales[0]:g}")
    if inference.flip:
        parts.append("mirrored too")
    return "; ".join(parts) + "."


def _overall(evaluation: SegmentationEvaluation) -> Table:
    scores, classes = evaluation.scores, len(evaluation.classes)
    over = {"miou": scores.scored, "macc": scores.measured}
    if min(over.values()) == classes:
        over = {}
    named = [title(name) + (f" over {over[name]} of {classes} classes" if name in over else "") for name in OVERALL]
    table = columns([], named, gap=2)
    table.add_row(*(f"{evaluation.metrics[name]:.2f}" for name in OVERALL))
    return table


def _absent(evaluation: SegmentationEvaluation) -> str:
    """Return a sentence about the classes that the table shows without an accuracy."""
    absent = evaluation.absent
    return f"No pixel of {len(absent)} of {len(evaluation.classes)} classes: {few(absent)}."


def _by_class(evaluation: SegmentationEvaluation, width: int) -> Table:
    """Return a table of classes by descending IoU, those without one last, column by column."""
    scores = evaluation.scores
    rows = sorted(
        zip(evaluation.classes, scores.iou, scores.accuracy, strict=True),
        key=lambda row: (row[1] is None, -(row[1] or 0)),
    )
    name_width = min(LONGEST_NAME, max(len("class"), *(len(name) for name in evaluation.classes)))
    columns = max(1, (width + GAP) // (name_width + IOU + ACCURACY + 2 + GAP))
    length = -(-len(rows) // columns)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), collapse_padding=True)
    for number in range(-(-len(rows) // length)):
        table.add_column("class" if number == 0 else "  class", no_wrap=True, overflow="ellipsis")
        table.add_column("IoU", justify="right", min_width=IOU)
        table.add_column("accuracy", justify="right", min_width=ACCURACY)
    for line in range(length):
        table.add_row(*_line(rows[line::length], name_width))
    return table


def _line(rows: Sequence[Row], name_width: int) -> list[str]:
    """Return the cells of classes that are side by side."""
    cells = []
    for number, (name, iou, accuracy) in enumerate(rows):
        shown = name if len(name) <= name_width else f"{name[: name_width - 3]}..."
        cells += [f"{'' if number == 0 else '  '}{shown}", _figure(iou), _figure(accuracy)]
    return cells


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
