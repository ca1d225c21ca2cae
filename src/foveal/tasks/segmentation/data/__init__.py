"""Images with a class for each pixel, read from folders and checked, and their augmentation.

``open_split`` and ``open_train_and_val`` open datasets; ``survey`` looks at a few label maps; ``Augment`` is the
training transform.
"""

from foveal.tasks.segmentation.data.ade20k import ADE20K_CLASSES
from foveal.tasks.segmentation.data.augment import PUBLISHED, SMALL, Augment, Augmentation
from foveal.tasks.segmentation.data.dataset import LabelledImages
from foveal.tasks.segmentation.data.splits import open_split, open_train_and_val
from foveal.tasks.segmentation.data.survey import survey

__all__ = [
    "ADE20K_CLASSES",
    "PUBLISHED",
    "SMALL",
    "Augment",
    "Augmentation",
    "LabelledImages",
    "open_split",
    "open_train_and_val",
    "survey",
]
