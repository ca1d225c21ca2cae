"""Conversion of detections to COCO records and files."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as peer
from pycocotools.coco import COCO

from foveal.errors import FovealError
from foveal.tasks.detection.results import ImageResult, box_records, mask_records, write_coco_results
from foveal.tasks.detection.rle import decode_mask, encode_masks, mask_areas
from support.detections import CATEGORY_IDS, coco_document, detections

ONE = {
    "boxes": torch.tensor([[10.0, 20.0, 40.0, 60.0], [0.0, 0.0, 1.5, 2.0]]),
    "labels": torch.tensor([2, 0]),
    "scores": torch.tensor([0.75, 0.25]),
}


def test_boxes_are_converted_to_xywh_with_category_ids():
    assert ImageResult.from_detections(7, ONE).box_records(CATEGORY_IDS) == [
        {"image_id": 7, "category_id": 11, "score": 0.75, "bbox": [10.0, 20.0, 30.0, 40.0]},
        {"image_id": 7, "category_id": 2, "score": 0.25, "bbox": [0.0, 0.0, 1.5, 2.0]},
    ]


def test_masks_contain_pixels_with_a_probability_of_at_least_one_half():
    masks = torch.tensor([[[[0.0, 0.5], [0.49, 1.0], [0.6, 0.0]]], [[[0.0, 0.0], [0.0, 0.0], [0.0, 0.4]]]])
    records = ImageResult.from_detections(7, {**ONE, "masks": masks}).mask_records(CATEGORY_IDS)
    assert [record["category_id"] for record in records] == [11, 2]
    assert all("bbox" not in record for record in records)  # otherwise its area would define object sizes
    assert decode_mask(records[0]["segmentation"]).tolist() == [[False, True], [False, True], [True, False]]
    assert records[1]["segmentation"]["size"] == [3, 2]
    assert not decode_mask(records[1]["segmentation"]).any()


@pytest.mark.parametrize("shape", [(0, 5, 7), (1, 1, 1), (3, 40, 33)])
def test_run_lengths_match_pycocotools(shape):
    masks = torch.rand(shape) < 0.3
    runs = encode_masks(masks)
    assert json.loads(json.dumps(runs)) == runs
    theirs = [peer.encode(np.asfortranarray(mask.numpy().astype(np.uint8))) for mask in masks]
    assert [run["counts"].encode() for run in runs] == [rle["counts"] for rle in theirs]
    assert [decode_mask(run).tolist() for run in runs] == masks.tolist()
    assert mask_areas(runs) == masks.sum((1, 2)).tolist()


def test_half_precision_scores_and_boxes_are_accepted():
    halves = {name: value.bfloat16() if value.is_floating_point() else value for name, value in ONE.items()}
    half, full = (ImageResult.from_detections(7, found).box_records(CATEGORY_IDS) for found in (halves, ONE))
    assert half == full


@pytest.mark.parametrize("kind", ["bbox", "segmentation"])
def test_a_results_file_can_be_read_by_pycocotools(tmp_path, capsys, kind):
    document = coco_document(0)
    results = [ImageResult.from_detections(number, one) for number, one in detections(document, 1).items()]
    records = (box_records if kind == "bbox" else mask_records)(results, CATEGORY_IDS)
    write_coco_results(tmp_path / "found.json", records)
    (tmp_path / "truth.json").write_text(json.dumps(document))
    read = COCO(str(tmp_path / "truth.json")).loadRes(str(tmp_path / "found.json"))
    assert [annotation[kind] for annotation in read.dataset["annotations"]] == [record[kind] for record in records]
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["found.json", "truth.json"]


def test_a_failed_write_keeps_the_previous_file(tmp_path, monkeypatch):
    def full(part, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "found.json"
    path.write_text("before")
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(
        FovealError, match=r"found.json could not be written \(No space left on device\): choose another"
    ):
        write_coco_results(path, [])
    assert [file.name for file in tmp_path.iterdir()] == ["found.json"]
    assert path.read_text() == "before"
