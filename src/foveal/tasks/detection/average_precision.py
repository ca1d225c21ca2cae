"""COCO's average precision of boxes or masks: over ten IoU thresholds, by object size and by class.

The rules are those of Lin et al. 2014 and cocodataset.org/#detection-eval, computed by faster-coco-eval: IoU from 0.50
to 0.95 in steps of 0.05, precision at 101 recalls, the 100 best detections per image and class, crowds ignored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from foveal.tasks.detection.results import Record
from foveal.tasks.detection.rle import coco_tools

Kind = Literal["box", "mask"]
IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
RECALLS = tuple(step / 100 for step in range(101))
ALL_AREAS, MOST_DETECTIONS = 0, -1  # indices into COCO's tables: objects of every size, 100 detections
SIZES = ("small", "medium", "large")  # area below 32 x 32 pixels, below 96 x 96, above


@dataclass(frozen=True)
class AveragePrecision:
    """Average precision of boxes or masks, in percent.

    Attributes:
        kind: "box" or "mask".
        overall: ``ap``, ``ap50``, ``ap75``, ``ap_small``, ``ap_medium``, ``ap_large`` and ``ar100``, means over the
            classes; figures without an object in the ground truth (such as a size that none has) are missing.
        classes: AP of each class that has objects, in the order of the categories.
        without_objects: the other classes, which no mean counts.
        precision: (10, 101, K) from 0 to 1, by IoU, recall and class; NaN for classes without objects.
        by_class: of each class that has objects, the figures of ``overall`` that its objects have.
        names: of the K classes, in the order of the categories.
    """

    kind: Kind
    overall: dict[str, float]
    classes: dict[str, float]
    precision: np.ndarray
    without_objects: tuple[str, ...] = ()
    by_class: dict[str, dict[str, float]] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    @property
    def scope(self) -> str:
        """What follows a mean that does not count every class, as in `` over 2 of 3 classes``; empty otherwise."""
        counted, others = len(self.classes), len(self.without_objects)
        return f" over {counted} of {counted + others} classes" if others else ""

    @property
    def metrics(self) -> dict[str, float]:
        """``overall`` with the names of a training log: ``box_ap``, ``mask_ap50``, ..."""
        return {f"{self.kind}_{name}": value for name, value in self.overall.items()}


def average_precision(ground_truth: Mapping[str, Any], records: Sequence[Record], kind: Kind) -> AveragePrecision:
    """Compute the average precision of detections.

    Args:
        ground_truth: a COCO document (images, annotations, categories) of exactly the evaluated images.
        records: detections in COCO's format, with ``bbox`` for boxes, with ``segmentation`` and no ``bbox`` for masks.
        kind: compare boxes or masks.

    Raises:
        FovealError: faster-coco-eval is not installed.
        ValueError: there is a detection on an image that is not in ``ground_truth``.
    """
    known = {image["id"] for image in ground_truth["images"]}
    if not known.issuperset(record["image_id"] for record in records):
        raise ValueError("there are detections on images that are not in the ground truth")
    tables = _evaluate(ground_truth, records, kind)
    categories = sorted(ground_truth["categories"], key=lambda category: category["id"])
    names = [category["name"] for category in categories]
    precision = tables["precision"][..., ALL_AREAS, MOST_DETECTIONS]
    figures = {name: _known(_overall(tables, slice(at, at + 1))) for at, name in enumerate(names)}
    by_class = {name: found for name, found in figures.items() if "ap" in found}
    return AveragePrecision(
        kind,
        _known(_overall(tables)),
        {name: found["ap"] for name, found in by_class.items()},
        np.where(precision < 0, np.nan, precision),
        tuple(name for name in names if name not in by_class),
        by_class,
        tuple(names),
    )


def _evaluate(ground_truth: Mapping[str, Any], records: Sequence[Record], kind: Kind) -> dict[str, np.ndarray]:
    """Return COCO's tables: ``precision`` (IoU, recall, class, size, limit), ``recall`` (IoU, class, size, limit)."""
    tools = coco_tools()
    annotations = _numbered(ground_truth["annotations"])
    truth, none = (tools.COCO({**ground_truth, "annotations": a}, print_function=_silent) for a in (annotations, []))
    # Copies, since the tools modify their input; earlier versions do not accept an empty list.
    found = truth.loadRes([dict(record) for record in records]) if records else none
    evaluation = tools.COCOeval_faster(truth, found, {"box": "bbox", "mask": "segm"}[kind], print_function=_silent)
    evaluation.evaluate()
    evaluation.accumulate()
    return {name: np.asarray(evaluation.eval[name]) for name in ("precision", "recall")}


def _numbered(annotations: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Copy annotations with ids from 1, since 0 means "unmatched" to the tools, and fill in optional fields."""
    defaults = [{"iscrowd": 0, "area": a["bbox"][2] * a["bbox"][3]} for a in annotations]
    pairs = zip(defaults, annotations, strict=True)
    return [{**default, **given, "id": number} for number, (default, given) in enumerate(pairs, start=1)]


def _known(figures: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if value is not None}


def _overall(tables: Mapping[str, np.ndarray], classes: slice = slice(None)) -> dict[str, float | None]:
    """Return the figures of some classes, None where there is no object."""
    precision, recall = (tables[name][..., classes, :, MOST_DETECTIONS] for name in ("precision", "recall"))
    whole = precision[..., ALL_AREAS]
    values = {
        "ap": _percent(whole),
        "ap50": _percent(whole[IOU_THRESHOLDS.index(0.5)]),
        "ap75": _percent(whole[IOU_THRESHOLDS.index(0.75)]),
    }
    values |= {f"ap_{size}": _percent(precision[..., index]) for index, size in enumerate(SIZES, start=1)}
    return {**values, "ar100": _percent(recall[..., ALL_AREAS])}


def _percent(values: np.ndarray) -> float | None:
    """Return the mean of the defined values (COCO marks others with -1) in percent, or None if there are none."""
    defined = values[values > -1]
    return 100 * float(defined.mean()) if defined.size else None


def _silent(*words: object) -> None:
    """Replace the tools' print function."""
