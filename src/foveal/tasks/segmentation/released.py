"""A segmenter filled from a file: the authors', which MMSegmentation saved, and our own."""

from foveal.models.load_report import LoadReport
from foveal.models.weights_file import WeightsSource
from foveal.tasks.dense.released import load_dense
from foveal.tasks.segmentation.segmenter import Segmenter


def load_segmenter(segmenter: Segmenter, path: WeightsSource, *, new_classes: bool = False) -> LoadReport:
    """Fill a segmenter from a local file, or raise and leave it as it was; see ``load_dense``."""
    return load_dense(segmenter, path, new_classes=new_classes)
