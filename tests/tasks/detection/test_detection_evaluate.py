"""Every readable image counts once on any number of processes, and skipped images do not count as missed."""

import json

import pytest
import torch
from PIL import Image

from foveal.errors import FovealError
from foveal.tasks.detection.average_precision import average_precision
from foveal.tasks.detection.data import open_split
from foveal.tasks.detection.evaluate import counted_truth, evaluate_detector, write_detections
from foveal.tasks.detection.results import ImageResult, box_records, mask_records
from foveal.training.batching import Share
from foveal.training.loading import evaluation_loader
from support.detections import CATEGORY_IDS, KnownAnswers, MadeImages, collate, detections

CPU = torch.device("cpu")


def evaluated(images, model, broken="stop"):
    loader = evaluation_loader(images, 4, Share(), 0, collate, broken)
    return evaluate_detector(model, loader, images, device=CPU)


def test_a_dataset_is_compared_with_its_annotations(tmp_path):
    images, steps = MadeImages(tmp_path), []
    loader = evaluation_loader(images, 5, Share(), 0, collate)
    evaluation = evaluate_detector(
        KnownAnswers(images), loader, images, device=CPU, on_batch=lambda *at: steps.append(at)
    )
    results = [ImageResult.from_detections(number, one) for number, one in detections(images.document, 0).items()]
    box = average_precision(images.document, box_records(results, CATEGORY_IDS), "box")
    mask = average_precision(images.document, mask_records(results, CATEGORY_IDS), "mask")
    assert evaluation.metrics == {**box.metrics, **mask.metrics}
    assert (evaluation.images, evaluation.broken) == (24, [])
    assert steps == [(done, 5) for done in range(1, 6)]
    document = json.loads(json.dumps(evaluation.document))
    assert document["ap_of_classes"] == {"box": box.classes, "mask": mask.classes}
    assert document["mask_ap50"] == mask.overall["ap50"]


def test_a_detector_without_masks_has_no_mask_ap(tmp_path):
    images = MadeImages(tmp_path)
    whole = evaluated(images, KnownAnswers(images)).box
    evaluation = evaluated(images, KnownAnswers(images, masks=False))
    assert evaluation.mask is None
    assert evaluation.metrics == whole.metrics


def test_an_unreadable_image_counts_neither_as_predicted_nor_as_missed(tmp_path):
    images = MadeImages(tmp_path, broken=(0, 5))
    evaluation = evaluated(images, KnownAnswers(images), broken="skip")
    assert (evaluation.images, evaluation.broken) == (22, ["0.png", "5.png"])
    left = [image["id"] for at, image in enumerate(images.document["images"]) if at not in (0, 5)]
    truth = counted_truth(images, left)
    assert [image["id"] for image in truth["images"]] == left
    results = [ImageResult.from_detections(n, one) for n, one in detections(images.document, 0).items() if n in left]
    assert evaluation.box.overall == average_precision(truth, box_records(results, CATEGORY_IDS), "box").overall
    with pytest.raises(FovealError, match="not a readable image"):
        evaluated(images, KnownAnswers(images))


def test_a_second_evaluation_with_the_same_loader_gives_the_same_results(tmp_path):
    images = MadeImages(tmp_path, broken=(3,))
    loader = evaluation_loader(images, 4, Share(), 0, collate, "skip")
    one, two = (evaluate_detector(KnownAnswers(images), loader, images, device=CPU) for _ in range(2))
    assert (
        (one.metrics, one.images, one.broken) == (two.metrics, two.images, two.broken) == (one.metrics, 23, ["3.png"])
    )


def test_annotations_without_a_segmentation_can_be_used_for_boxes_only(tmp_path):
    images = MadeImages(tmp_path)
    whole = evaluated(images, KnownAnswers(images)).box
    images.document["annotations"][3]["segmentation"] = []
    assert evaluated(images, KnownAnswers(images, masks=False)).metrics == whole.metrics
    with pytest.raises(FovealError, match=r"instances.json has no segmentation of annotation 4, .*: add it"):
        evaluated(images, KnownAnswers(images))


@pytest.mark.parametrize("left", [0, 1])
def test_a_dataset_without_objects_is_rejected(tmp_path, left):
    """Crowds do not count as objects."""
    images = MadeImages(tmp_path)
    crowds = [{**annotation, "iscrowd": 1} for annotation in images.document["annotations"][:left]]
    images.document["annotations"] = crowds
    with pytest.raises(FovealError, match=r"No image that .*instances.json names has an object: check --data"):
        evaluated(images, KnownAnswers(images))


def test_a_dataset_without_readable_images_is_rejected(tmp_path):
    images = MadeImages(tmp_path, broken=tuple(range(24)))
    with pytest.raises(FovealError, match="None of the images can be read"):
        evaluated(images, KnownAnswers(images), broken="skip")


def test_nan_scores_raise_an_error_that_names_the_image(tmp_path):
    """Every process raises the error, so that none waits for the others."""
    images = MadeImages(tmp_path)
    known = KnownAnswers(images)

    def broken(batch):
        return [{**found, "scores": found["scores"] * float("nan")} for found in known(batch)]

    with pytest.raises(FovealError, match=r"scores on image \d+ are NaN: its weights are broken"):
        evaluated(images, broken)


def test_results_are_written_in_coco_format(tmp_path):
    images = MadeImages(tmp_path)
    evaluation = evaluated(images, KnownAnswers(images))
    write_detections(tmp_path, evaluation, CATEGORY_IDS)
    boxes = json.loads((tmp_path / "detections.bbox.json").read_text())
    masks = json.loads((tmp_path / "detections.segm.json").read_text())
    assert average_precision(images.document, boxes, "box").overall == evaluation.box.overall
    assert average_precision(images.document, masks, "mask").overall == evaluation.mask.overall


def test_a_skipped_annotation_does_not_count_as_missed(tmp_path):
    """One of two objects has an empty box; detecting the other one gives a perfect score."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "val" / "a.png")
    head = {"image_id": 7, "category_id": 3, "area": 100}
    boxes = [[10, 10, 20, 20], [30, 10, 0, 20]]
    document = {
        "images": [{"id": 7, "file_name": "a.png", "height": 48, "width": 64}],
        "annotations": [{"id": number, "bbox": box, **head} for number, box in enumerate(boxes, start=1)],
        "categories": [{"id": 3, "name": "dog"}],
    }
    (tmp_path / "annotations" / "instances_val.json").write_text(json.dumps(document))
    images = open_split(tmp_path, "val", masks=False, broken="skip")
    found = {"boxes": torch.tensor([[10.0, 10, 30, 30]]), "labels": torch.tensor([0]), "scores": torch.tensor([0.9])}
    loader = evaluation_loader(images, 1, Share(), 0, collate)
    assert evaluate_detector(lambda batch: [found], loader, images, device=CPU).metrics["box_ap"] == pytest.approx(100)
