#!/usr/bin/env bash
# Found:      pycocotools 2.0.11 and faster-coco-eval 1.8.0, which does the same
# Behaviour:  `COCO.loadRes` takes the area of a detected mask from its `bbox` if the record has one in addition to
#             `segmentation`. The area determines which detections are ignored in AP by size, so AP of the same masks
#             changes with a field that mask AP does not otherwise use: here a thin mask of 600 pixels counts as
#             22,950, and as a false positive it no longer costs AP of small objects.
# Output:     by_pycocotools: area, AP of small objects: (600, 0.5) without bbox, (22950, 1.0) with it
#             by_faster: area, AP of small objects: (600, 0.5) without bbox, (22950, 1.0) with it
# In foveal:  Mask records are written without `bbox` (docs/detection.md; `mask_records` in
#             src/foveal/tasks/detection).
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pycocotools==2.0.11 faster-coco-eval==1.8.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import contextlib
import copy
import io

import faster_coco_eval
import numpy as np
import pycocotools.coco
import pycocotools.cocoeval
from pycocotools import mask


def diagonal(row):
    """A strip four pixels wide: 600 pixels in a box of 153 x 150, as a record's segmentation and box."""
    pixels = np.zeros((400, 400), np.uint8, order="F")
    for step in range(150):
        pixels[row + step, step : step + 4] = 1
    runs = mask.encode(pixels)
    return {"segmentation": {"size": runs["size"], "counts": runs["counts"].decode()}, "bbox": [0, row, 153, 150]}


truth = {
    "images": [{"id": 1, "height": 400, "width": 400}], "categories": [{"id": 1, "name": "strip"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 600, **diagonal(0)}],
}
# A false positive, which AP of small objects should count, followed by the detected object.
found = [{"image_id": 1, "category_id": 1, "score": score, **diagonal(row)} for score, row in ((0.9, 200), (0.8, 0))]


def by_pycocotools(records):
    annotations = pycocotools.coco.COCO()
    annotations.dataset = copy.deepcopy(truth)
    annotations.createIndex()
    results = annotations.loadRes(records)
    return results, pycocotools.cocoeval.COCOeval(annotations, results, "segm")


def by_faster(records):
    annotations = faster_coco_eval.COCO(copy.deepcopy(truth))
    results = annotations.loadRes(records)
    return results, faster_coco_eval.COCOeval_faster(annotations, results, "segm")


for tool in (by_pycocotools, by_faster):
    seen = []
    for left_out in ({"bbox"}, set()):
        records = [{k: copy.deepcopy(v) for k, v in record.items() if k not in left_out} for record in found]
        with contextlib.redirect_stdout(io.StringIO()):
            results, evaluation = tool(records)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        seen.append((int(results.anns[1]["area"]), round(float(evaluation.stats[3]), 3)))
    print(f"{tool.__name__}: area, AP of small objects: {seen[0]} without bbox, {seen[1]} with it")
    assert seen == [(600, 0.5), (22950, 1.0)], "the box no longer decides"
PY
