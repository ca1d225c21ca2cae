#!/usr/bin/env bash
# Found:      pycocotools 2.0.11; faster-coco-eval 1.8.0 gives the same figures, with a warning
# Behaviour:  An annotation with id 0, as in files numbered from 0, can never be matched: a perfect detection of it
#             gives AP 0. COCO's format does not require ids to start at 1.
# Why:        The match tables contain ids, and 0 means that nothing matched.
# Output:     id 0: pycocotools 0.0, faster-coco-eval 0.0
#             id 1: pycocotools 1.0, faster-coco-eval 1.0
# In foveal:  Annotations are renumbered from 1 before evaluation
#             (src/foveal/tasks/detection/average_precision.py).
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
import warnings

import faster_coco_eval
import pycocotools.coco
import pycocotools.cocoeval


def ap(number):
    """AP of one exactly detected box, by both tools, if its annotation has this id."""
    box = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 50]}
    truth = {
        "images": [{"id": 1, "height": 100, "width": 100}], "categories": [{"id": 1, "name": "box"}],
        "annotations": [{**box, "id": number, "iscrowd": 0, "area": 2500}],
    }
    plain = pycocotools.coco.COCO()
    plain.dataset = copy.deepcopy(truth)
    plain.createIndex()
    faster = faster_coco_eval.COCO(copy.deepcopy(truth))
    evaluations = [
        kind(tool, tool.loadRes([{**box, "score": 0.9}]), "bbox")
        for tool, kind in ((plain, pycocotools.cocoeval.COCOeval), (faster, faster_coco_eval.COCOeval_faster))
    ]
    for evaluation in evaluations:
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [round(float(evaluation.stats[0]), 3) for evaluation in evaluations]


for number, expected in ((0, 0.0), (1, 1.0)):
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
        plain, faster = ap(number)
    print(f"id {number}: pycocotools {plain}, faster-coco-eval {faster}")
    assert plain == faster == expected, "ids of 0 are counted differently now"
PY
