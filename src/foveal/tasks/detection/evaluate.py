"""Evaluate a detector: run it on every image once, over all processes, and compute average precision."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from foveal.errors import FovealError
from foveal.tasks.detection.average_precision import AveragePrecision, Kind, average_precision
from foveal.tasks.detection.results import ImageResult, box_records, mask_records, write_coco_results
from foveal.tasks.detection.rle import coco_tools
from foveal.tasks.finished import Middle
from foveal.tasks.network import best_device
from foveal.training.loading import Loader, all_broken
from foveal.training.processes import Processes, to_device

BOXES, MASKS = "detections.bbox.json", "detections.segm.json"


class Annotated(Protocol):
    """A data set with COCO annotations, such as ``CocoImages``."""

    annotation_file: Path
    category_ids: list[int]
    """Category id of each label."""

    def ground_truth(self) -> dict[str, Any]:
        """Return the data set's COCO document, with crowds and without invalid annotations."""


@dataclass(frozen=True)
class DetectionEvaluation:
    """Accuracy of a detector on N images; the same on every process, except for ``results``.

    Attributes:
        box: average precision of boxes.
        mask: average precision of masks, None for a detector without masks.
        images: N, the images that could be read.
        broken: names of the images that could not, and are not counted.
        images_per_second: over the whole evaluation, including loading and average precision.
        results: detections on each image, by image id; on the main process only, empty elsewhere.
    """

    box: AveragePrecision
    mask: AveragePrecision | None
    images: int
    broken: list[str]
    images_per_second: float
    results: list[ImageResult]

    @property
    def metrics(self) -> dict[str, float]:
        """All overall figures in percent: ``box_ap``, ``box_ap50``, ..., ``mask_ap``, ..."""
        return {**self.box.metrics, **(self.mask.metrics if self.mask else {})}

    @property
    def document(self) -> dict[str, Any]:
        """The figures in plain types, as written to results.json."""
        classes = {found.kind: found.classes for found in (self.box, self.mask) if found}
        missing = self.box.without_objects
        by_class = {found.kind: found.by_class for found in (self.box, self.mask) if found}
        return {
            **self.metrics,
            "ap_of_classes": classes,
            "by_class": by_class,
            "scored_classes": len(self.box.classes),
            "classes": len(self.box.classes) + len(missing),
            "classes_without_examples": list(missing),
            "classes_without_objects": list(missing),
            "images": self.images,
            "broken": len(self.broken),
            "broken_names": self.broken,
            "images_per_second": self.images_per_second,
        }


def evaluate_detector(
    model: Callable[[list[Tensor]], list[dict[str, Tensor]]],
    loader: Loader,
    images: Annotated,
    processes: Processes | None = None,
    device: torch.device | None = None,
    on_batch: Callable[[int, int], None] | None = None,
    middle: Middle | None = None,
) -> DetectionEvaluation:
    """Run a detector on all images of ``loader`` and compute average precision.

    The detector must be in evaluation mode and on its device. For mixed precision, call this function within
    ``processes.autocast(precision)``.

    Args:
        model: maps a list of images to a list of detections, see ``Detector``.
        loader: this process's share, in batches (images, targets); only ``image_id`` of a target is used.
        images: the whole data set.
        processes: that share the images; None for a single one, on ``device``.
        device: used without ``processes``; None for the best one.
        on_batch: called with (done, total) after each batch.
        middle: where an evaluation that was stopped goes on, as the ``loader`` does, and is kept.

    Raises:
        FovealError: faster-coco-eval is not installed, no image could be read, the detector's scores are NaN, or
            the ground truth has no objects, or lacks masks that are needed.
    """
    coco_tools()  # every process reports its absence before the first image
    device, middle = processes.device if processes else device or best_device(), middle or Middle()
    results, broken = _results(model, loader, device, on_batch, middle), list(loader.broken)
    if processes is not None:
        results, broken = processes.gather_objects(results), processes.gather_objects(broken)
    if not results:
        raise all_broken(broken)
    _check_scores(results)
    masks, number = results[0].masks is not None, len(results)
    # On every process, so that all of them raise if it is unusable, and none waits for the others.
    truth = counted_truth(images, {result.image_id for result in results}, masks)
    main = processes is None or processes.is_main
    results = sorted(results, key=lambda result: result.image_id) if main else []
    scores = _scores(results, truth, images.category_ids, masks) if main else {}
    if processes is not None:
        scores = processes.from_main(scores)
    speed = number / middle.elapsed
    return DetectionEvaluation(scores["box"], scores.get("mask"), number, sorted(broken), speed, results)


def write_detections(folder: Path, evaluation: DetectionEvaluation, category_ids: list[int]) -> None:
    """Write detections as COCO's result files to an existing folder; see ``write_coco_results``."""
    write_coco_results(folder / BOXES, box_records(evaluation.results, category_ids))
    if evaluation.mask is not None:
        write_coco_results(folder / MASKS, mask_records(evaluation.results, category_ids))


def counted_truth(images: Annotated, image_ids: Collection[int], masks: bool = False) -> dict[str, Any]:
    """Return the ground truth of these images only: objects on images that were not evaluated cannot be missed.

    Raises:
        FovealError: they have no objects, or with ``masks``, an object has no segmentation.
    """
    document, ids = images.ground_truth(), set(image_ids)
    objects = [annotation for annotation in document["annotations"] if annotation["image_id"] in ids]
    if all(annotation.get("iscrowd") for annotation in objects):
        raise FovealError(f"No image that {images.annotation_file} names has an object: check --data.")
    bare = next((a for a in objects if not a.get("segmentation")), None) if masks else None
    if bare is not None:
        raise FovealError(
            f"{images.annotation_file} has no segmentation of annotation {bare['id']}, which masks need: "
            "add it, or evaluate a detector without masks."
        )
    evaluated = [image for image in document["images"] if image["id"] in ids]
    return {"images": evaluated, "annotations": objects, "categories": document["categories"]}


def _results(
    model: Callable[[list[Tensor]], list[dict[str, Tensor]]],
    loader: Loader,
    device: torch.device,
    on_batch: Callable[[int, int], None] | None,
    middle: Middle,
) -> list[ImageResult]:
    """Return the detections on each image of this process's share; masks are encoded batch by batch."""
    results = [ImageResult.of(state) for state in middle.state or ()]
    for done, (images, targets) in enumerate(loader, start=loader.batches_before + 1):
        with torch.no_grad():
            found = model(to_device(images, device, channels_last=False))
        for target, objects in zip(targets, found, strict=True):
            results.append(ImageResult.from_detections(int(target["image_id"]), objects))
        middle.offer(lambda: [result.state() for result in results], loader.progress)
        if on_batch is not None:
            on_batch(done, len(loader))
    return results


def _check_scores(results: list[ImageResult]) -> None:
    broken = min((result.image_id for result in results if np.isnan(result.scores).any()), default=None)
    if broken is not None:
        raise FovealError(f"The detector's scores on image {broken} are NaN: its weights are broken, use others.")


def _scores(
    results: list[ImageResult], truth: dict[str, Any], category_ids: list[int], masks: bool
) -> dict[Kind, AveragePrecision]:
    scores: dict[Kind, AveragePrecision] = {"box": average_precision(truth, box_records(results, category_ids), "box")}
    if masks:
        scores["mask"] = average_precision(truth, mask_records(results, category_ids), "mask")
    return scores
