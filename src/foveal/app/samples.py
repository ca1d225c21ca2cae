"""Sample photographs, which are installed with scikit-learn and need no download."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from PIL import Image

from foveal.errors import FovealError
from foveal.report.page_attention import CREDITS, sample_photograph

#: Name -> credit, which is shown with the photograph.
SAMPLES = CREDITS


def samples_exist() -> bool:
    """Return whether scikit-learn is installed."""
    return find_spec("sklearn") is not None


def sample(name: Any) -> tuple[str, Image.Image]:
    """Return the name and the photograph, a square of 512 pixels; raise FovealError if there is no such sample."""
    if name not in SAMPLES:
        raise FovealError(f"There is no sample {name!r}: choose one of {', '.join(SAMPLES)}.")
    return name, Image.fromarray(sample_photograph(name))
