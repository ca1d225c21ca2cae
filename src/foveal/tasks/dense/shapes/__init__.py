"""A made data set: textured shapes on real photographs, in COCO's format, drawn in seconds wherever foveal runs."""

from foveal.tasks.dense.shapes.outlines import CLASSES
from foveal.tasks.dense.shapes.write import shapes_folder, write_shapes

__all__ = ["CLASSES", "shapes_folder", "write_shapes"]
