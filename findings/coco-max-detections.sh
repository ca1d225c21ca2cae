#!/usr/bin/env bash
# Found:      pycocotools 2.0.11 and faster-coco-eval 1.8.0, which differ
# Behaviour:  With `params.maxDets = [1, 10, 300]`, as for detectors with 300 queries, pycocotools' `summarize`
#             reports an AP of -1 although AP50 and AP75 are correct: only AP is looked up for 100 detections,
#             which is not in the list. faster-coco-eval, its drop-in replacement, uses the last entry and reports
#             AP.
# Output:     pycocotools: AP -1.0, AP50 1.0
#             faster-coco-eval: AP 1.0, AP50 1.0
# In foveal:  AP is computed from the tables, not by `summarize`, and always for 100 detections (docs/detection.md).
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
import pycocotools.coco
import pycocotools.cocoeval

box = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 50]}
truth = {
    "images": [{"id": 1, "height": 100, "width": 100}], "categories": [{"id": 1, "name": "box"}],
    "annotations": [{**box, "id": 1, "iscrowd": 0, "area": 2500}],
}


def ap(tool, kind):
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = kind(tool, tool.loadRes([{**box, "score": 0.9}]), "bbox")
        evaluation.params.maxDets = [1, 10, 300]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [round(float(value), 3) for value in evaluation.stats[:2]]


with contextlib.redirect_stdout(io.StringIO()):
    tool = pycocotools.coco.COCO()
    tool.dataset = copy.deepcopy(truth)
    tool.createIndex()
plain = ap(tool, pycocotools.cocoeval.COCOeval)
faster = ap(faster_coco_eval.COCO(copy.deepcopy(truth)), faster_coco_eval.COCOeval_faster)
print("pycocotools: AP {}, AP50 {}".format(*plain))
print("faster-coco-eval: AP {}, AP50 {}".format(*faster))
assert plain == [-1, 1] and faster == [1, 1], "the tools have changed"
PY
