"""A made data set: textured shapes on real photographs, in COCO's format, drawn in seconds wherever foveal runs."""

from foveal.tasks.dense.shapes.coco import TRAIN, VAL, shapes_folder, write_shapes
from foveal.tasks.dense.shapes.scenes import CLASSES

__all__ = ["CLASSES", "TRAIN", "VAL", "shapes_folder", "write_shapes"]
