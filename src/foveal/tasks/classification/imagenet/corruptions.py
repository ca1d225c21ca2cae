"""ImageNet-C: fifteen corruptions at five severities, and the error relative to AlexNet's (mCE).

Hendrycks and Dietterich 2019, arXiv:1903.12261, and its published code, github.com/hendrycks/robustness.

The images are 224 x 224 crops of the validation images, which that code does not crop again. Here they are used as
they are at 224 pixels, and resized as a whole for other sizes. Resizing and cropping them like validation images would
remove an eighth of height and width.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from foveal.errors import FovealError
from foveal.tasks.classification.preprocessing import Preprocessing
from foveal.tasks.listing import few

SEVERITIES = (1, 2, 3, 4, 5)

#: Top-1 error of AlexNet on each corruption, as a fraction, averaged over severities.
ALEXNET = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}


@dataclass(frozen=True)
class CorruptionErrors:
    """Top-1 errors on ImageNet-C.

    Attributes:
        errors: percent by corruption, one number per severity from 1 to 5.
    """

    errors: dict[str, tuple[float, ...]]

    @property
    def means(self) -> dict[str, float]:
        """Mean error over severities in percent, by corruption."""
        return {name: fmean(errors) for name, errors in self.errors.items()}

    @property
    def relative(self) -> dict[str, float]:
        """Corruption error (CE) in percent: errors summed over severities, divided by AlexNet's."""
        return {name: mean / ALEXNET[name] for name, mean in self.means.items()}

    @property
    def mce(self) -> float:
        """Mean corruption error (mCE) in percent; 100 is AlexNet."""
        return fmean(self.relative.values())

    @property
    def mean_error(self) -> float:
        """Mean error over corruptions and severities in percent."""
        return fmean(self.means.values())


def uncropped(fit: Preprocessing) -> Preprocessing:
    """Return the preprocessing for images that are already cropped."""
    return replace(fit, whole_from=0)


def corruption_folders(root: Path) -> dict[tuple[str, int], Path]:
    """Return the folder of each corruption and severity, in the order of ``ALEXNET``.

    Folders are ``root/<corruption>/<severity>``, or one level deeper, as in ``root/noise/gaussian_noise/1``. Others,
    such as the four extra corruptions, are ignored.

    Raises:
        FovealError: folders are missing.
    """
    places = {name: _place(root, name) for name in ALEXNET}
    missing = [name for name, place in places.items() if place is None]
    if missing:
        raise FovealError(f"{root} lacks {few(missing)} of ImageNet-C's 15 corruptions: unpack them there.")
    found = {
        (name, severity): place / str(severity) for name, place in places.items() if place for severity in SEVERITIES
    }
    missing = [f"{name}/{severity}" for (name, severity), folder in found.items() if not folder.is_dir()]
    if missing:
        raise FovealError(f"{root} lacks {few(missing)} of ImageNet-C's severities: unpack them there.")
    return found


def _place(root: Path, name: str) -> Path | None:
    beside = sorted(folder / name for folder in root.iterdir() if folder.is_dir())
    return next((place for place in (root / name, *beside) if place.is_dir()), None)
