"""``foveal evaluate`` of a segmenter: mean IoU, and the IoU of every class."""

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from foveal.cli.console import UsageError, print_json, progress
from foveal.cli.evaluate_checks import check_classes, single_size, weights_file
from foveal.cli.evaluate_options import EvaluateOptions
from foveal.cli.segmentation_tables import print_evaluation
from foveal.report.evaluation import check_results_folder
from foveal.report.evaluation_segmentation import choose_examples, write_evaluation
from foveal.tasks.segmentation.data import LabelledImages, open_split
from foveal.tasks.segmentation.evaluate import SegmentationEvaluation, evaluate_segmenter
from foveal.tasks.segmentation.inference import MULTI_SCALE, Inference, label_map
from foveal.tasks.segmentation.recipe import SegmentationRecipe
from foveal.tasks.segmentation.task import SegmentationTask, TrainedSegmenter
from foveal.training.loading import evaluation_loader
from foveal.training.processes import Processes, check_precision, leave_processes, start_processes


def evaluate_on_label_maps(recipe: SegmentationRecipe, options: EvaluateOptions) -> None:
    """Measure the segmenter in a file and print the figures."""
    checkpoint, size = weights_file(recipe, options), single_size(recipe, options)
    if options.out is not None:
        check_results_folder(options.out)
    known = SegmentationTask.restore(
        checkpoint, recipe, size=size, position_bias=options.position_bias, reference_size=options.reference_size
    )
    known = replace(known, inference=adapt_inference(known.inference, options))
    folder = SegmentationTask.data_folder(recipe, options.data)
    images = open_split(folder, options.split, zero_ignored=known.zero_ignored)
    check_classes(recipe, known.classes, images.classes, folder)
    processes = start_processes()
    check_precision(options.precision, processes.device)
    evaluation = _evaluate(known, images, options, processes)
    leave_processes()
    if not processes.is_main:
        return
    for name in evaluation.broken:
        print(f"foveal: {name} could not be read and was left out.", file=sys.stderr)
    document = _document(recipe, known, folder, options, evaluation)
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
    """How the recipe evaluates, but for what the options say.

    Raises:
        UsageError: --stride where images are seen whole.
        FovealError: numbers that make no sense together.
    """
    changes: dict[str, Any] = {}
    if options.whole:
        changes |= {"window": None, "stride": None}
    if options.window is not None:
        changes |= {"window": options.window, "stride": max(1, round(options.window * 2 / 3))}
    if options.stride is not None:
        if options.window is None and usual.window is None:
            raise UsageError("--stride is from window to window, and images are seen whole: pass --window as well.")
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
    evaluation: SegmentationEvaluation,
) -> dict[str, Any]:
    return {
        "recipe": recipe.name,
        "model": known.name,
        "checkpoint": str(options.checkpoint),
        "data": str(folder),
        "split": options.split,
        "precision": options.precision,
        "inference": asdict(known.inference),
        "position_bias": options.position_bias,
        "reference_size": options.reference_size,
        "results": evaluation.document,
    }
