"""A made data set: textured shapes on real photographs, in COCO's format, drawn in seconds wherever foveal runs."""

from foveal.tasks.dense.shapes.outlines import CLASSES
from foveal.tasks.dense.shapes.write import TRAIN, VAL, shapes_folder, write_shapes

__all__ = ["CLASSES", "TRAIN", "VAL", "shapes_folder", "write_shapes"]
