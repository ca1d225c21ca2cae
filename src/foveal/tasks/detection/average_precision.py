"""Average precision by COCO's rules: over ten overlaps, by size and by class, of boxes or of masks.

The rules are those of Lin et al. 2014 and cocodataset.org/#detection-eval, computed by faster-coco-eval: IoU from 0.50
to 0.95 in steps of 0.05, precision at 101 recalls, the 100 best detections of an image and class, crowds ignored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from foveal.tasks.detection.results import Record
from foveal.tasks.detection.rle import coco_tools

Kind = Literal["box", "mask"]
IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
RECALLS = tuple(step / 100 for step in range(101))
ALL_AREAS, MOST_DETECTIONS = 0, -1  # places in COCO's tables: objects of every size, 100 detections
SIZES = ("small", "medium", "large")  # below 32 x 32 pixels of the image, below 96 x 96, above


@dataclass(frozen=True)
class AveragePrecision:
    """How well boxes or masks were found, in percent.

    Attributes:
        kind: "box" or "mask".
        overall: ``ap``, ``ap50``, ``ap75``, ``ap_small``, ``ap_medium``, ``ap_large`` and ``ar100``, means over the
            classes; what no object of the ground truth stands for (a size that none has) is missing.
        classes: AP of each class that has objects, in the order of the categories.
        precision: (10, 101, K) from 0 to 1, at every IoU, recall and class; NaN for a class without objects.
    """

    kind: Kind
    overall: dict[str, float]
    classes: dict[str, float]
    precision: np.ndarray

    @property
    def metrics(self) -> dict[str, float]:
        """``overall`` under the names of a training log: ``box_ap``, ``mask_ap50``, ..."""
        return {f"{self.kind}_{name}": value for name, value in self.overall.items()}


def average_precision(ground_truth: Mapping[str, Any], records: Sequence[Record], kind: Kind) -> AveragePrecision:
    """Compare detections with what is on the images.

    Args:
        ground_truth: a COCO document (images, annotations, categories): its images are those that count, and
            detections on others are refused.
        records: detections in COCO's form, with ``bbox`` for boxes, with ``segmentation`` and no ``bbox`` for masks.
        kind: what is compared.

    Raises:
        FovealError: faster-coco-eval is not installed.
        ValueError: a detection on an image that is not in ``ground_truth``.
    """
    known = {image["id"] for image in ground_truth["images"]}
    if not known.issuperset(record["image_id"] for record in records):
        raise ValueError("there are detections on images that are not in the ground truth")
    tables = _evaluate(ground_truth, records, kind)
    categories = sorted(ground_truth["categories"], key=lambda category: category["id"])
    names = [category["name"] for category in categories]
    precision = tables["precision"][..., ALL_AREAS, MOST_DETECTIONS]
    by_class = {name: _percent(precision[..., at]) for at, name in enumerate(names)}
    return AveragePrecision(
        kind,
        {name: value for name, value in _overall(tables).items() if value is not None},
        {name: value for name, value in by_class.items() if value is not None},
        np.where(precision < 0, np.nan, precision),
    )


def _evaluate(ground_truth: Mapping[str, Any], records: Sequence[Record], kind: Kind) -> dict[str, np.ndarray]:
    """COCO's tables: ``precision`` (IoU, recall, class, size, most detections), ``recall`` the same without recall."""
    tools = coco_tools()
    annotations = _numbered(ground_truth["annotations"])
    truth, none = (tools.COCO({**ground_truth, "annotations": a}, print_function=_silent) for a in (annotations, []))
    # Copies, since the tools write into what they are given; an empty list their earlier versions cannot take.
    found = truth.loadRes([dict(record) for record in records]) if records else none
    evaluation = tools.COCOeval_faster(truth, found, {"box": "bbox", "mask": "segm"}[kind], print_function=_silent)
    evaluation.evaluate()
    evaluation.accumulate()
    return {name: np.asarray(evaluation.eval[name]) for name in ("precision", "recall")}


def _numbered(annotations: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Copies with ids from 1, since 0 means to the tools that nothing was matched, and with what is often left out."""
    left_out = [{"iscrowd": 0, "area": a["bbox"][2] * a["bbox"][3]} for a in annotations]
    pairs = zip(left_out, annotations, strict=True)
    return [{**default, **given, "id": number} for number, (default, given) in enumerate(pairs, start=1)]


def _overall(tables: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    precision, recall = (tables[name][..., MOST_DETECTIONS] for name in ("precision", "recall"))
    whole = precision[..., ALL_AREAS]
    values = {
        "ap": _percent(whole),
        "ap50": _percent(whole[IOU_THRESHOLDS.index(0.5)]),
        "ap75": _percent(whole[IOU_THRESHOLDS.index(0.75)]),
    }
    values |= {f"ap_{size}": _percent(precision[..., place]) for place, size in enumerate(SIZES, start=1)}
    return {**values, "ar100": _percent(recall[..., ALL_AREAS])}


def _percent(values: np.ndarray) -> float | None:
    """The mean of what is defined (COCO marks the rest with -1), in percent; None where nothing is."""
    defined = values[values > -1]
    return 100 * float(defined.mean()) if defined.size else None


def _silent(*words: object) -> None:
    """In the place of the tools' prints."""
