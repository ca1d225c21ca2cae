"""``foveal evaluate`` with classifiers of any number of labels per image: mean average precision and F1."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from foveal.cli.console import UsageError, columns, print_json, progress, say, show_notices
from foveal.cli.kept import notices_of
from foveal.cli.options import EvaluateOptions
from foveal.report.evaluation_labels import label_document, write_label_results
from foveal.tasks.classification.data import open_split
from foveal.tasks.classification.data.classes import named
from foveal.tasks.classification.evaluate import EvaluationSettings, check_split
from foveal.tasks.classification.label_scores import LabelScore, finished_label_score
from foveal.tasks.classification.network import Classifier
from foveal.tasks.finished import Finished
from foveal.tasks.network import set_input_size
from foveal.wording import digits, many, percent


def refuse_single_label(options: EvaluateOptions) -> None:
    """Raise UsageError for options of classifiers that give one class per image."""
    asked = {
        "--set": options.set != ("val",),
        "--mode": bool(options.mode),
        "--multi-scale": options.multi_scale,
        "--corrupt": options.corrupt,
        "--pool-size": options.pool_size is not None,
        "--paper": options.paper,
        "--precision int8": options.precision == "int8",
    }
    other = next((option for option, given in asked.items() if given), None)
    if other is not None:
        raise UsageError(f"{other} is for one class per image, and this file has several labels: leave it out.")
    if len(options.size) > 1:
        raise UsageError("A classifier of several labels per image is evaluated at one --size: name one.")


def evaluate_labels(
    classifier: Classifier,
    folder: Path,
    settings: EvaluationSettings,
    options: EvaluateOptions,
    finished: Finished,
    document: dict[str, Any],
) -> None:
    """Evaluate a classifier, print its figures, and write them.

    Args:
        folder: of the tables of labels.
        document: what the JSON document says beside the figures.
    """
    for side in options.size:
        set_input_size(classifier.model, (side, side))
        classifier = replace(classifier, fit=replace(classifier.fit, size=(side, side)))
    images = open_split(folder, options.split, classifier.fit.transform(), classifier.held_out)
    check_split(classifier, images, folder / options.split)
    main_process = settings.processes is None or settings.processes.is_main
    part = {"split": options.split, "size": classifier.fit.size}
    with progress("Evaluating", shown=main_process) as on_batch:
        found = finished_label_score(finished, part, classifier, images, settings, on_batch)
    if not main_process:
        return
    broken = [f"{name} could not be read and was left out." for name in found.broken_names]
    show_notices([*notices_of(finished), *images.notices, *broken])
    document |= {"set": images.set_name, "size": list(classifier.fit.size), "notices": images.notices}
    document |= label_document(found, images.classes)
    if options.json:
        print_json(document)
    else:
        _print(found, classifier, images.classes)
    if options.out is not None:  # last, so that a full disk costs no answer
        write_label_results(options.out, document)
        if not options.json:
            say(f"Average precision by class: {options.out}")


def _print(found: LabelScore, classifier: Classifier, classes: list[str]) -> None:
    console = Console(highlight=False)
    height, width = classifier.fit.size
    table = columns([], ["size", "images", "mAP", "F1", "loss", "images/s"], gap=2)
    figures = [f"{found.mean:.2f}", f"{found.f1:.2f}", digits(found.loss), f"{found.images_per_second:.1f}"]
    table.add_row(f"{height}x{width}", f"{found.images:,}", *figures)
    console.print(table)
    console.print()
    rows = columns(["class"], ["images", "AP"], gap=2)
    for name, count, precision in zip(classes, found.per_class, found.precisions, strict=True):
        rows.add_row(name, f"{count:,}", "" if precision is None else percent(precision))
    console.print(rows)
    absent = [name for name, precision in zip(classes, found.precisions, strict=True) if precision is None]
    if absent:
        say(f"mAP is over {found.scored_classes} of {many(len(classes), 'class', 'classes')}, without {named(absent)}.")
