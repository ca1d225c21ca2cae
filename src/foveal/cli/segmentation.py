"""The commands for segmenters: ``foveal evaluate`` with mean IoU, ``foveal predict`` with label maps."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from torch import Tensor

from foveal.cli.console import UsageError, columns, print_json, progress, say, show_notices
from foveal.cli.options import EvaluateOptions, PredictOptions, check_classes, single_size, weights_file
from foveal.files import check_writable, output_paths, staging_folder
from foveal.models.weights_file import WeightsFile
from foveal.report.draw import write_picture
from foveal.report.draw_label_map import draw_prediction
from foveal.report.draw_legend import percent
from foveal.report.evaluation import check_results_folder
from foveal.report.evaluation_segmentation import choose_examples, write_evaluation
from foveal.runtime.session import Session
from foveal.tasks.listing import few
from foveal.tasks.segmentation.data import LabelledImages, open_split, survey
from foveal.tasks.segmentation.evaluate import SegmentationEvaluation, evaluate_segmenter
from foveal.tasks.segmentation.exported import predict as segment_exported
from foveal.tasks.segmentation.inference import MULTI_SCALE, Inference, label_map
from foveal.tasks.segmentation.predict import LabelMapPrediction, write_label_map
from foveal.tasks.segmentation.predict import predict as segment
from foveal.tasks.segmentation.recipes import SegmentationRecipe
from foveal.tasks.segmentation.task import SegmentationTask, TrainedSegmenter
from foveal.training.loading import evaluation_loader
from foveal.training.processes import Processes, check_precision, leave_processes, start_processes
from foveal.wording import many, title

ENDINGS = (".png", "_labels.png")
Files = Mapping[str, Sequence[Path]]
OVERALL = ("miou", "macc", "aacc")
LONGEST_NAME, IOU, ACCURACY, GAP = 22, 6, 8, 3  # columns of text: of a class's name, its figures, between classes
Row = tuple[str, float | None, float | None]


def evaluate(recipe: SegmentationRecipe, options: EvaluateOptions) -> None:
    """Evaluate the segmenter in a file and print mean IoU and the IoU of each class."""
    checkpoint, size = weights_file(recipe, options), single_size(recipe, options)
    if options.out is not None:
        check_results_folder(options.out)
    known = SegmentationTask.restore(
        checkpoint, recipe, size=size, position_bias=options.position_bias, reference_size=options.reference_size
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
    evaluation = _evaluate(known, images, options, processes)
    images.conclude(processes)
    leave_processes()
    if not processes.is_main:
        return
    notices = [*images.notices, *(f"{name} could not be read and was left out." for name in evaluation.broken)]
    show_notices(notices)
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
    known: TrainedSegmenter, images: LabelledImages, options: EvaluateOptions, processes: Processes
) -> SegmentationEvaluation:
    loader = evaluation_loader(images, 1, processes.share, options.workers, broken=options.broken)
    model = known.model.to(processes.device)
    with processes.autocast(options.precision), progress("Evaluating", shown=processes.is_main) as on_batch:
        return evaluate_segmenter(model, loader, known.classes, known.inference, processes, on_batch=on_batch)


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


def predict(
    images: Sequence[Path], weights: WeightsFile, recipe: SegmentationRecipe | None, options: PredictOptions
) -> None:
    """Predict the class of every pixel of ``images``; with ``--out`` also draw them and write label maps."""
    files = _files(images, options.out)
    known = SegmentationTask.restore(weights, recipe, size=options.size)
    find = partial(segment, known.model, known.classes, images, inference=known.inference)
    _predict(find, known.classes, files, options)


def predict_exported(images: Sequence[Path], session: Session, options: PredictOptions) -> None:
    """Predict the class of every pixel of ``images`` with an exported file, as ``predict``."""
    files = _files(images, options.out)
    _predict(partial(segment_exported, session, images, size=options.size), session.card.classes, files, options)


def _files(images: Sequence[Path], out: Path | None) -> Files:
    """Return the picture and the label map to write of each image, by its path."""
    if out is None:
        return {}
    check_writable(out)
    return output_paths(images, out, ENDINGS)


def _predict(
    find: Callable[..., list[LabelMapPrediction]], classes: Sequence[str], files: Files, options: PredictOptions
) -> None:
    out = options.out
    staged = contextlib.nullcontext() if out is None else staging_folder(out, "choose another --out")
    with staged as stage, progress("Segmenting") as on_batch:

        def draw(prediction: LabelMapPrediction, image: np.ndarray) -> None:
            if stage is not None:
                picture, label_map = (stage / file.name for file in files[prediction.path])
                write_picture(picture, draw_prediction(image, prediction.labels, classes, prediction.shares))
                write_label_map(label_map, prediction.labels)

        predictions = find(on_batch=on_batch, on_image=draw)
    if options.json:
        print_json([_prediction_document(prediction, files) for prediction in predictions])
    else:
        _print_shares(predictions, files)


def _prediction_document(prediction: LabelMapPrediction, files: Files) -> dict[str, Any]:
    picture, label_map = files.get(prediction.path, (None, None))
    return {
        "path": prediction.path,
        "height": prediction.height,
        "width": prediction.width,
        "classes": [asdict(share) for share in prediction.shares],
        "picture": None if picture is None else str(picture),
        "label_map": None if label_map is None else str(label_map),
    }


def _print_shares(predictions: Sequence[LabelMapPrediction], files: Files) -> None:
    for prediction in predictions:
        written = ", ".join(map(str, files.get(prediction.path, ())))
        print(prediction.path + (f" -> {written}" if written else ""))
        for share in prediction.shares:
            print(f"  {percent(share.share):>7}  {share.name}")


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
