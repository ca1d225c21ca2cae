"""Average precision compared with hand-computed cases, and with pycocotools on synthetic data."""

import contextlib
import io
import sys
from copy import deepcopy

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from foveal.errors import FovealError
from foveal.tasks.detection.average_precision import RECALLS, average_precision
from foveal.tasks.detection.results import ImageResult, box_records, mask_records
from support.detections import ABSENT, CATEGORY_IDS, CLASSES, coco_document, detections

NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
AR100 = 8  # index in the statistics of pycocotools


def scene(*boxes, categories=(1,), crowd=()):
    """One image of 200 x 200 with boxes (category, x, y, width, height); ``crowd`` are the indices of crowds."""
    annotations = [
        {"id": n + 1, "image_id": 1, "category_id": c, "bbox": [x, y, w, h], "area": w * h, "iscrowd": int(n in crowd)}
        for n, (c, x, y, w, h) in enumerate(boxes)
    ]
    named = [{"id": number, "name": f"class {number}"} for number in categories]
    return {"images": [{"id": 1, "height": 200, "width": 200}], "annotations": annotations, "categories": named}


def found(*boxes):
    """Detections (category, score, x, y, width, height)."""
    return [{"image_id": 1, "category_id": c, "score": s, "bbox": list(box)} for c, s, *box in boxes]


HIT, MISS = (40, 40, 50, 50), (120, 120, 50, 50)


@pytest.mark.parametrize(
    ("detected", "ap", "ap50", "ap75"),
    [
        ([(1, 0.9, *HIT)], 100, 100, 100),
        ([(1, 0.9, *HIT), (1, 0.8, *MISS)], 100, 100, 100),  # false positives after the last object have no effect
        ([(1, 0.8, *HIT), (1, 0.9, *MISS)], 50, 50, 50),  # precision is 1/2 when the object is found
        ([(1, 0.9, *HIT), (1, 0.8, *HIT)], 100, 100, 100),  # the duplicate is a false positive, but comes last
        ([(1, 0.9, 40, 40, 50, 30)], 30, 100, 0),  # IoU 0.6: correct at 0.5, 0.55 and 0.6, three of ten
        ([(1, 0.9, *MISS)], 0, 0, 0),
        ([], 0, 0, 0),
    ],
)
def test_average_precision_of_a_single_object(detected, ap, ap50, ap75):
    overall = average_precision(scene((1, *HIT)), found(*detected), "box").overall
    assert (overall["ap"], overall["ap50"], overall["ap75"]) == pytest.approx((ap, ap50, ap75))


def test_finding_half_of_the_objects_fills_the_first_51_recall_steps():
    overall = average_precision(scene((1, *HIT), (1, *MISS)), found((1, 0.9, *HIT)), "box").overall
    assert overall["ap"] == pytest.approx(100 * 51 / 101)
    assert overall["ar100"] == pytest.approx(50)


def test_crowds_are_neither_objects_nor_false_positives():
    truth = scene((1, *HIT), (1, 100, 100, 90, 90), crowd=(1,))
    assert average_precision(truth, found((1, 0.9, *MISS), (1, 0.8, *HIT)), "box").overall["ap"] == pytest.approx(100)


def test_a_class_without_objects_is_excluded_from_mean_and_classes():
    truth = scene((1, *HIT), (2, *MISS), categories=(1, 2, 3))
    scores = average_precision(truth, found((1, 0.9, *HIT), (3, 0.9, *MISS)), "box")
    assert scores.overall["ap"] == pytest.approx(50)
    assert scores.classes == pytest.approx({"class 1": 100, "class 2": 0})
    assert np.isnan(scores.precision[..., 2]).all()


def test_metrics_of_absent_object_sizes_are_omitted():
    scores = average_precision(scene((1, 10, 10, 20, 20), (1, 40, 40, 50, 50)), [], "box")
    names = {"ap", "ap50", "ap75", "ap_small", "ap_medium", "ar100"}
    assert scores.metrics == {f"box_{name}": 0.0 for name in names}


def test_an_image_set_without_objects_has_no_score():
    assert average_precision(scene(), found((1, 0.9, *HIT)), "box").overall == {}


def test_precision_is_given_for_every_iou_recall_and_class():
    scores = average_precision(scene((1, *HIT), (1, *MISS)), found((1, 0.9, 40, 40, 50, 30)), "box")
    assert scores.precision.shape == (10, len(RECALLS), 1)
    right = np.array([[iou <= 0.6 and recall <= 0.5 for recall in RECALLS] for iou in np.linspace(0.5, 0.95, 10)])
    assert (scores.precision[..., 0] == right).all()


def test_iscrowd_and_area_are_optional_and_id_0_is_valid():
    truth = scene((1, *HIT), (1, *MISS))
    for number, annotation in enumerate(truth["annotations"]):
        del annotation["iscrowd"], annotation["area"]
        annotation["id"] = number
    overall = average_precision(truth, found((1, 0.9, *HIT), (1, 0.8, *MISS)), "box").overall
    assert (overall["ap"], overall["ap_medium"]) == pytest.approx((100, 100))


def test_detections_on_an_unknown_image_are_rejected():
    stray = [{**found((1, 0.9, *HIT))[0], "image_id": 2}]
    with pytest.raises(ValueError, match="not in the ground truth"):
        average_precision(scene((1, *HIT)), stray, "box")


@pytest.mark.parametrize("kind", ["box", "mask"])
@pytest.mark.parametrize("seed", range(3))
def test_results_match_pycocotools(seed, kind):
    document = coco_document(seed)
    results = [ImageResult.from_detections(number, one) for number, one in detections(document, seed + 10).items()]
    records = (box_records if kind == "box" else mask_records)(results, CATEGORY_IDS)
    scores = average_precision(document, records, kind)
    peer = pycocotools(document, records, kind)
    expected = {name: 100 * value for name, value in zip(NAMES, peer.stats) if value > -1}
    assert scores.overall == pytest.approx({**expected, "ar100": 100 * peer.stats[AR100]}, abs=1e-9)
    assert 20 < scores.overall["ap"] < 80  # not trivially all or nothing
    precision = peer.eval["precision"][..., 0, 2]
    by_class = {name: 100 * precision[..., at].mean() for at, name in enumerate(CLASSES) if at != ABSENT}
    assert scores.classes == pytest.approx(by_class, abs=1e-9)


def test_inputs_are_not_modified():
    document = coco_document(0)
    results = [ImageResult.from_detections(number, one) for number, one in detections(document, 1).items()]
    records = mask_records(results, CATEGORY_IDS)
    average_precision(document, records, "mask")
    assert document == coco_document(0)
    assert records == mask_records(results, CATEGORY_IDS)


def test_missing_faster_coco_eval_names_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(FovealError, match=r"pip install 'foveal\[dense\]'"):
        average_precision(scene((1, *HIT)), [], "box")


def test_nothing_is_printed(capfd):
    average_precision(scene((1, *HIT)), found((1, 0.9, *HIT)), "box")
    assert capfd.readouterr() == ("", "")


def pycocotools(document, records, kind):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = deepcopy(document)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(deepcopy(records)), {"box": "bbox", "mask": "segm"}[kind])
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation
