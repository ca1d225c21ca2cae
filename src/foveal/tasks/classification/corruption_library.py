"""The library of ImageNet-C's corruptions: imagecorruptions-imaug, whose output is used as it is.

Why this one: docs/evaluation.md compares it with the published code and with other packages.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

import numpy as np

from foveal.errors import FovealError
from foveal.training.sampling import seeded_on_cpu

PACKAGE, RENAMED_FROM = "imagecorruptions-imaug", "imagecorruptions"
SMALLEST = 32  # side in pixels that the package takes
INSTALL = 'install it with `pip install "foveal[robustness]"`'


@dataclass(frozen=True)
class CorruptionLibrary:
    """What corrupts images.

    Attributes:
        package, version: for results.
        apply: from (pixels, corruption, severity from 1 to 5, seed) to corrupted pixels; both (H, W, 3) uint8.
    """

    package: str
    version: str
    apply: Callable[[np.ndarray, str, int, int], np.ndarray]


def corruption_library() -> CorruptionLibrary:
    """Return the library.

    Raises:
        FovealError: it is not installed, or does not run.
    """
    try:
        version = metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        raise FovealError(f"--corrupt needs {PACKAGE}: {INSTALL}.") from None
    try:
        metadata.version(RENAMED_FROM)
    except metadata.PackageNotFoundError:
        pass
    else:  # both packages write the same folder
        raise FovealError(f"{RENAMED_FROM} hides {PACKAGE}: uninstall both, and {INSTALL}.")
    try:
        import imagecorruptions  # noqa: F401
    except ImportError as error:  # such as OpenCV without a library of the system
        raise FovealError(f"{PACKAGE} cannot be imported ({error}): install what it lacks.") from error
    return CorruptionLibrary(PACKAGE, version, corrupted)


def corrupted(pixels: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """Return what the library makes of an image; its randomness follows from ``seed``.

    Args:
        pixels: (H, W, 3) uint8, at least 32 x 32.
        name: one of ``CORRUPTIONS``.
        severity: from 1 to 5.
        seed: of NumPy's generator, and of the generators that some corruptions have themselves.
    """
    from imagecorruptions import corrupt, corruption_dict

    own = {"seed": seed % 2**32} if "seed" in inspect.signature(corruption_dict[name]).parameters else {}
    with seeded_on_cpu(seed):
        return corrupt(pixels, severity=severity, corruption_name=name, **own)
