"""Images with a class for every pixel: folders of label maps read and checked, and augmented.

``open_split`` and ``open_train_and_val`` are the doors; ``Augment`` is the transform of training.
"""

from foveal.tasks.segmentation.data.augment import PUBLISHED, SMALL, Augment, Augmentation
from foveal.tasks.segmentation.data.dataset import LabelledImages, open_split, open_train_and_val
from foveal.tasks.segmentation.data.folders import ADE20K_CLASSES

__all__ = [
    "ADE20K_CLASSES",
    "PUBLISHED",
    "SMALL",
    "Augment",
    "Augmentation",
    "LabelledImages",
    "open_split",
    "open_train_and_val",
]
