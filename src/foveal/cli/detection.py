"""``foveal evaluate`` with detectors: average precision of boxes and masks."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from foveal.cli.console import columns, print_json, progress, say, show_notices
from foveal.cli.kept import going_on, kept_parts, notices_of
from foveal.cli.options import EvaluateOptions, check_file, single_size
from foveal.models.weights_file import WeightsFile
from foveal.report.evaluation_detection import write_evaluation
from foveal.tasks.detection.average_precision import AveragePrecision
from foveal.tasks.detection.confusion import confusion
from foveal.tasks.detection.data import CocoImages, collate, open_split
from foveal.tasks.detection.evaluate import DetectionEvaluation, counted_truth, evaluate_detector
from foveal.tasks.detection.recipes import DetectionRecipe
from foveal.tasks.detection.task import DetectionTask, TrainedDetector
from foveal.tasks.finished import Finished, files_digest
from foveal.training.loading import evaluation_loader
from foveal.training.processes import Processes, check_precision, leave_processes, start_processes
from foveal.wording import many

COLUMNS = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "ap_small": "small", "ap_medium": "medium", "ap_large": "large"}


def evaluate(recipe: DetectionRecipe, weights: WeightsFile | None, options: EvaluateOptions) -> None:
    """Evaluate the detector in a file and print average precision."""
    file, size = check_file(recipe, weights), single_size(recipe, options)
    out, broken = options.out, options.broken
    known = DetectionTask.restore(file, recipe, size=size)
    folder = DetectionTask.data_folder(recipe, options.data)
    images = open_split(
        folder,
        options.split,
        masks=known.model.needs_masks,
        broken=broken,
        classes=dict(zip(known.category_ids, known.classes, strict=True)),
        held_out=known.held_out,
    )
    images.check_objects("evaluate")
    processes = start_processes()
    check_precision(options.precision, processes.device)
    batch, share = options.batch_size or 1, processes.share
    model = known.model.to(processes.device)
    finished = _kept(known, images, file, options, processes)
    middle = finished.middle()
    loader = evaluation_loader(
        images, batch, share, options.workers, collate=collate, broken=broken, start=middle.started
    )
    with (
        going_on(out),
        processes.autocast(options.precision),
        progress("Evaluating", shown=processes.is_main) as on_batch,
    ):
        evaluation = evaluate_detector(model, loader, images, processes, on_batch=on_batch, middle=middle)
    is_main = processes.is_main
    leave_processes()
    if not is_main:
        finished.remove()
        return
    notices = [*images.notices, *(f"{name} could not be read and was left out." for name in evaluation.broken)]
    show_notices([*notices_of(finished), *notices])
    truth = counted_truth(images, {result.image_id for result in evaluation.results})
    found = confusion(evaluation.results, truth, images.category_ids)
    document = {
        "recipe": recipe.name,
        "model": known.name,
        "checkpoint": str(file.path),
        "data": str(folder),
        "split": options.split,
        "set": images.set_name or options.split,
        "annotations": str(images.annotation_file),
        "precision": options.precision,
        "notices": notices,
        "results": {**evaluation.document, "confusion": found.document(images.classes)},
    }
    if options.json:
        print_json(document)
    else:
        _print_evaluation(evaluation, known.name)
    if out is not None:  # last, so that a full disk costs no answer
        write_evaluation(out, document, evaluation, found, images, known.name)
    finished.remove()


def _kept(
    known: TrainedDetector, images: CocoImages, file: WeightsFile, options: EvaluateOptions, processes: Processes
) -> Finished:
    if options.out is None:
        return Finished(processes=processes)
    facts = {"task": "detection", "size": options.size, "images": files_digest([images.annotation_file, *images.paths])}
    return kept_parts(options, file, known.model, processes, **facts)


def _print_evaluation(evaluation: DetectionEvaluation, title: str) -> None:
    console = Console(highlight=False)
    speed = f"{evaluation.images_per_second:.1f} images/s"
    scope = evaluation.box.scope and f", AP{evaluation.box.scope}"
    say(f"{title}, {many(evaluation.images, 'image')}, {speed}{scope}")
    kinds = [kind for kind in (evaluation.box, evaluation.mask) if kind is not None]
    console.print(_overall(kinds))
    console.print(_by_class(kinds))


def _overall(kinds: Sequence[AveragePrecision]) -> Table:
    table = columns([""], list(COLUMNS.values()), gap=2)
    for kind in kinds:
        table.add_row(kind.kind, *(_figure(kind.overall, name) for name in COLUMNS))
    return table


def _by_class(kinds: Sequence[AveragePrecision]) -> Table:
    """Return a table of classes by descending box AP, then those without objects."""
    table = columns(["class"], [f"{kind.kind} AP" for kind in kinds], gap=2)
    for name in sorted(kinds[0].classes, key=lambda name: -kinds[0].classes[name]):
        table.add_row(name, *(_figure(kind.classes, name) for kind in kinds))
    for name in kinds[0].without_objects:
        table.add_row(f"{name} (no object)", *("-" for _ in kinds))
    return table


def _figure(values: Mapping[str, float], name: str) -> str:
    return f"{values[name]:.2f}" if name in values else "-"
