"""A detector filled from a file: the authors', which MMDetection saved, and our own."""

from foveal.models.load_report import LoadReport
from foveal.models.weights_file import WeightsSource
from foveal.tasks.dense.released import load_dense
from foveal.tasks.detection.detector import Detector


def load_detector(detector: Detector, path: WeightsSource, *, new_classes: bool = False) -> LoadReport:
    """Fill a detector from a local file, or raise and leave it as it was; see ``load_dense``."""
    return load_dense(detector, path, new_classes=new_classes)
