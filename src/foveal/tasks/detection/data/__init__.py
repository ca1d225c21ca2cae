"""Images with objects in them: COCO's layout read and checked, augmented, and put into batches.

``open_split`` and ``open_train_and_val`` are the doors; ``Augment`` is the transform of training.
"""

from foveal.tasks.detection.data.augment import MULTI_SCALE, SMALL, Augment, Augmentation
from foveal.tasks.detection.data.coco import CocoImages, open_split, open_train_and_val
from foveal.tasks.detection.data.collate import collate

__all__ = [
    "MULTI_SCALE",
    "SMALL",
    "Augment",
    "Augmentation",
    "CocoImages",
    "collate",
    "open_split",
    "open_train_and_val",
]
