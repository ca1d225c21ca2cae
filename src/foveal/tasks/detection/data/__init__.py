"""Images with objects: data sets in COCO's and YOLO's layouts, read and checked, with augmentation and batching.

Open them with ``open_split`` or ``open_train_and_val``; ``Augment`` is the transform for training.
"""

from foveal.tasks.detection.data.augment import MULTI_SCALE, SMALL, Augment, Augmentation
from foveal.tasks.detection.data.coco import CocoImages, collate
from foveal.tasks.detection.data.opening import Empty, open_split, open_train_and_val

__all__ = [
    "MULTI_SCALE",
    "SMALL",
    "Augment",
    "Augmentation",
    "CocoImages",
    "Empty",
    "collate",
    "open_split",
    "open_train_and_val",
]
