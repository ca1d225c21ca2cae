"""Multiply-adds and parameters of a detector, as the papers' tables tell them."""

from foveal.models.counting import Count
from foveal.tasks.dense.counting import count_dense
from foveal.tasks.detection.detector import Detector


def count_detector(detector: Detector, size: tuple[int, int] = (800, 1280)) -> Count:
    """Count a detector's multiply-adds and parameters without running it; see ``count_dense``.

    Of two-stage detectors, which do as much as they find, 1000 boxes and 100 masks are counted.
    """
    return count_dense(detector, size)
