"""Synthetic dataset: textured shapes on real photographs, in COCO's format, generated in seconds without a download."""

from foveal.tasks.dense.shapes.coco import TRAIN, VAL, shapes_folder, write_shapes
from foveal.tasks.dense.shapes.scenes import CLASSES

__all__ = ["CLASSES", "TRAIN", "VAL", "shapes_folder", "write_shapes"]
