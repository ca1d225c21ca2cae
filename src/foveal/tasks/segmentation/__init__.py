"""Semantic segmentation: ``create_segmenter`` makes one."""

from foveal.tasks.segmentation.create import create_segmenter
from foveal.tasks.segmentation.segmenter import IGNORED, Segmenter

__all__ = ["IGNORED", "Segmenter", "create_segmenter"]
