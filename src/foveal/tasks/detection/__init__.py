"""Object detection and instance segmentation: Mask R-CNN, RetinaNet and DINO on any backbone, and all around them."""

from foveal.tasks.detection.create import create_detector
from foveal.tasks.detection.detector import Detector

__all__ = ["Detector", "create_detector"]
