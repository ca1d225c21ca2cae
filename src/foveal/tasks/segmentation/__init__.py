"""Semantic segmentation: ``create_segmenter`` makes one, ``load_segmenter`` fills it."""

from foveal.tasks.dense.counting import count_segmenter
from foveal.tasks.dense.released import load_dense as load_segmenter
from foveal.tasks.segmentation.segmenter import IGNORED, Segmenter, create_segmenter

__all__ = ["IGNORED", "Segmenter", "count_segmenter", "create_segmenter", "load_segmenter"]
