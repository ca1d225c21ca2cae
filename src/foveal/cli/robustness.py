"""``foveal evaluate --corrupt``: errors of a classifier under corruptions of the images at hand."""

from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from foveal.cli.console import columns, print_json, show_notices
from foveal.cli.kept import notices_of
from foveal.cli.options import EvaluateOptions
from foveal.cli.total_progress import total_progress
from foveal.report.evaluation_robustness import draw_corrupted, write_robustness
from foveal.tasks.classification.corruption_library import CorruptionLibrary
from foveal.tasks.classification.data import open_split, source_of
from foveal.tasks.classification.evaluate import EvaluationSettings, check_split
from foveal.tasks.classification.imagenet.corruptions import SEVERITIES
from foveal.tasks.classification.modes import in_mode
from foveal.tasks.classification.names import CORRUPTIONS
from foveal.tasks.classification.network import Classifier
from foveal.tasks.classification.robustness import Robustness, measure_robustness
from foveal.tasks.finished import Finished

NOT_MCE = "Unlike ImageNet-C's mCE, the mean is not divided by AlexNet's errors."


def evaluate_corrupted(
    classifier: Classifier,
    folder: Path,
    library: CorruptionLibrary,
    settings: EvaluationSettings,
    options: EvaluateOptions,
    finished: Finished,
    document: dict[str, Any],
) -> None:
    """Evaluate a classifier under corruptions, print its errors, and write them.

    Args:
        folder: of the images.
        document: what the JSON document says beside the errors.
    """
    side = options.size[0] if options.size else None
    classifier = in_mode(classifier, None, None if side is None else (side, side), options.pool_size)
    images = open_split(folder, options.split, held_out=classifier.held_out)
    check_split(classifier, images, folder / options.split)
    names, severities = options.corruptions or CORRUPTIONS, options.severities or SEVERITIES
    size = classifier.fit.size
    part = {"set": "val", "split": options.split, "size": size, "mode": None, "pool_size": options.pool_size}
    main_process = settings.processes is None or settings.processes.is_main
    with partial(total_progress, shown=main_process)() as advance:
        found = measure_robustness(classifier, images, library, names, severities, settings, finished, advance, part)
    if not main_process:
        return
    broken = [f"{name} could not be read and was left out." for name in found.clean.broken_names]
    show_notices([*notices_of(finished), *images.notices, *broken])
    document = {
        **document,
        "data": source_of(folder, classifier.held_out).place(options.split),
        "set": images.set_name,
        "size": list(size),
        "notices": images.notices,
        "results": found.document(),
    }
    title = f"{classifier.name}, {size[0]}x{size[1]}"
    if options.json:
        print_json(document)
    else:
        print_robustness(found, title)
    if options.out is not None:  # last, so that a full disk costs no answer
        sheet = draw_corrupted(images, classifier.fit, library, found)
        write_robustness(options.out, document, found, sheet, title)
        if not options.json:
            Console(highlight=False).print(f"Table, chart and corrupted images: {options.out}", soft_wrap=True)


def print_robustness(found: Robustness, title: str) -> None:
    """Print a row of each corruption, below the clean error and the mean."""
    console = Console(highlight=False)
    console.print(f"{title}, {found.clean.images:,} images")
    console.print(f"Error: {found.clean_error:.2f} % clean, {found.mean_error:.2f} % on average under corruptions.")
    table = columns(["error by severity, %"], [*map(str, found.severities), "mean"], gap=2)
    for name, errors in found.errors.items():
        table.add_row(name.replace("_", " "), *(f"{one:.2f}" for one in errors.values()), f"{found.means[name]:.2f}")
    console.print(table)
    console.print(f"Corrupted by {found.package} {found.version}.")
    console.print(NOT_MCE)
