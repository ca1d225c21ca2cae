"""Object detection and instance segmentation: Mask R-CNN, RetinaNet and DINO on any backbone."""

from foveal.tasks.dense.counting import count_detector
from foveal.tasks.dense.released import load_dense as load_detector
from foveal.tasks.detection.detector import Detector, create_detector

__all__ = ["Detector", "count_detector", "create_detector", "load_detector"]
