"""A detector over a whole set: every image once over all processes, average precision on each of them."""

import json
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from foveal.errors import FovealError
from foveal.tasks.detection.average_precision import AveragePrecision, Kind, average_precision
from foveal.tasks.detection.results import ImageResult, box_records, mask_records, write_coco_results
from foveal.tasks.detection.rle import coco_tools
from foveal.tasks.network import best_device
from foveal.training.loading import Loader, all_broken
from foveal.training.processes import Processes, to_device

BOXES, MASKS = "detections.bbox.json", "detections.segm.json"


class Annotated(Protocol):
    """What an evaluation must know of a set of images."""

    annotation_file: Path
    """In COCO's format; the ground truth."""
    category_ids: list[int]
    """COCO's number of each label."""


@dataclass(frozen=True)
class DetectionEvaluation:
    """How good a detector is on N images; the same on every process, but for ``results``.

    Attributes:
        box: average precision of the boxes.
        mask: that of the masks, None where the detector gives none.
        images: N, those that could be read.
        broken: names of those that could not, and are not counted.
        images_per_second: over the whole evaluation, loading and counting included.
        results: what was found on each image, by image id; on the main process alone, empty elsewhere.
    """

    box: AveragePrecision
    mask: AveragePrecision | None
    images: int
    broken: list[str]
    images_per_second: float
    results: list[ImageResult]

    @property
    def metrics(self) -> dict[str, float]:
        """All overall figures, in percent: ``box_ap``, ``box_ap50``, ..., ``mask_ap``, ..."""
        return {**self.box.metrics, **(self.mask.metrics if self.mask else {})}

    @property
    def document(self) -> dict[str, Any]:
        """The figures in plain types, as results.json holds them."""
        classes = {found.kind: found.classes for found in (self.box, self.mask) if found}
        counts = {"images": self.images, "broken": len(self.broken), "broken_names": self.broken}
        return {**self.metrics, "ap_of_classes": classes, **counts, "images_per_second": self.images_per_second}


def evaluate_detector(
    model: Callable[[list[Tensor]], list[dict[str, Tensor]]],
    loader: Loader,
    images: Annotated,
    processes: Processes | None = None,
    device: torch.device | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> DetectionEvaluation:
    """Run a detector, in evaluation mode and on its device, over all images of ``loader`` and count.

    It runs as the caller has arranged it: within ``processes.autocast(precision)`` for mixed precision.

    Args:
        loader: this process's share, in batches (images, targets); of a target the ``image_id`` is used.
        images: whose share it is.
        processes: those that share the images; None for this one alone, on ``device`` (None: the best one).
        on_batch: called with (done, total) after each batch.

    Raises:
        FovealError: faster-coco-eval is not installed, no image could be read, or none has an object on it.
    """
    coco_tools()  # its absence is told before the first image, by every process
    place, started = processes.device if processes else device or best_device(), time.monotonic()
    results, broken = list(_results(model, loader, place, on_batch)), list(loader.broken)
    if processes is not None:
        results, broken = processes.gather_objects(results), processes.gather_objects(broken)
    if not results:
        raise all_broken(broken)
    number, main = len(results), processes is None or processes.is_main
    results = sorted(results, key=lambda result: result.image_id) if main else []
    scores = _scores(results, images) if main else {}
    if processes is not None:
        scores = processes.from_main(scores)
    if not scores["box"].overall:
        raise FovealError(f"No image that {images.annotation_file} names has an object on it: check --data.")
    speed = number / (time.monotonic() - started)
    return DetectionEvaluation(scores["box"], scores.get("mask"), number, sorted(broken), speed, results)


def write_results(folder: Path, evaluation: DetectionEvaluation, category_ids: list[int]) -> None:
    """Write what was found as COCO's result files into an existing folder; see ``write_coco_results``."""
    write_coco_results(folder / BOXES, box_records(evaluation.results, category_ids))
    if evaluation.mask is not None:
        write_coco_results(folder / MASKS, mask_records(evaluation.results, category_ids))


def ground_truth(images: Annotated, image_ids: Collection[int]) -> dict[str, Any]:
    """The COCO document of the set, crowds included, cut down to these images and the categories that have labels."""
    document = json.loads(Path(images.annotation_file).read_text(encoding="utf-8"))
    seen, known = set(image_ids), set(images.category_ids)
    return {
        "images": [image for image in document["images"] if image["id"] in seen],
        "annotations": [a for a in document["annotations"] if a["image_id"] in seen and a["category_id"] in known],
        "categories": [category for category in document["categories"] if category["id"] in known],
    }


def _results(
    model: Callable[[list[Tensor]], list[dict[str, Tensor]]],
    loader: Loader,
    device: torch.device,
    on_batch: Callable[[int, int], None] | None,
) -> Iterator[ImageResult]:
    """What is found on each image of this process's share; masks become run lengths batch by batch."""
    for done, (images, targets) in enumerate(loader, start=1):
        with torch.no_grad():
            found = model(to_device(images, device, channels_last=False))
        for target, objects in zip(targets, found, strict=True):
            yield ImageResult.of(int(target["image_id"]), objects)
        if on_batch is not None:
            on_batch(done, len(loader))


def _scores(results: list[ImageResult], images: Annotated) -> dict[Kind, AveragePrecision]:
    truth = ground_truth(images, {result.image_id for result in results})
    scores: dict[Kind, AveragePrecision] = {
        "box": average_precision(truth, box_records(results, images.category_ids), "box")
    }
    if results[0].masks is not None:
        scores["mask"] = average_precision(truth, mask_records(results, images.category_ids), "mask")
    return scores
