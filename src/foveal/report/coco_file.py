"""Detections in COCO's format, written as the predictions come."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from foveal.tasks.detection.predict import DetectionPrediction, coco_annotations, coco_categories, coco_image


@contextmanager
def coco_document(
    file: TextIO, classes: Sequence[str], category_ids: Sequence[int]
) -> Iterator[Callable[[DetectionPrediction], None]]:
    """Write detections as ``foveal.tasks.detection.predict.to_coco`` returns them; yield what takes the next image.

    Images and objects are two lists of the document, so objects wait in a temporary file.
    """
    images = objects = 0
    with tempfile.TemporaryFile("w+", encoding="utf-8") as waiting:

        def add(prediction: DetectionPrediction) -> None:
            nonlocal images, objects
            file.write((",\n" if images else '{"images": [\n') + json.dumps(coco_image(prediction, images + 1)))
            images += 1
            for entry in coco_annotations(prediction, images, objects + 1, category_ids):
                waiting.write((",\n" if objects else "") + json.dumps(entry))
                objects += 1

        yield add
        file.write('\n],\n"annotations": [\n' if images else '{"images": [], "annotations": [\n')
        waiting.seek(0)
        for line in waiting:
            file.write(line)
        file.write(f'\n],\n"categories": {json.dumps(coco_categories(classes, category_ids))}}}\n')
