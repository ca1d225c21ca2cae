"""The evaluation of a classifier of several labels per image, as files: results, and average precision by class."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foveal.files import staging_folder, write_errors
from foveal.report.chart_confusion import write_table
from foveal.report.details_classification import CLASSES
from foveal.report.evaluation import ADVICE, JSON
from foveal.tasks.classification.label_scores import LabelScore


def label_document(found: LabelScore, classes: Sequence[str]) -> dict[str, Any]:
    """Return the figures in plain types."""
    rows = zip(classes, found.per_class, found.precisions, strict=True)
    return {
        "images": found.images,
        **found.figures(),
        "images_per_second": found.images_per_second,
        "classes": len(classes),
        "scored_classes": found.scored_classes,
        "broken": found.broken,
        "broken_names": list(found.broken_names),
        "by_class": [{"class": name, "images": count, "average_precision": one} for name, count, one in rows],
    }


def write_label_results(folder: Path, document: dict[str, Any]) -> None:
    """Write ``results.json`` and ``classes.csv``; both appear together.

    Raises:
        FovealError: the folder cannot be written.
    """
    with staging_folder(folder, ADVICE) as staging, write_errors(folder, ADVICE):
        (staging / JSON).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        rows = [(one["class"], one["images"], _rounded(one["average_precision"])) for one in document["by_class"]]
        write_table(staging / CLASSES, ["class", "images", "average_precision_percent"], rows)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
