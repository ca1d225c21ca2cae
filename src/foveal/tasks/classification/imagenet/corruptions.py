"""ImageNet-C: fifteen corruptions at five severities, and the error relative to AlexNet's (mCE).

Hendrycks and Dietterich 2019, arXiv:1903.12261, and its published code, github.com/hendrycks/robustness.

The images are 224 x 224 already, cut from the validation set's, and that code feeds them whole (a centre crop of 224
pixels of an image of 224). So do we: nothing is resized at 224 pixels, and for a network of another size the whole
image is. Resizing and cropping once more, as for the validation set, would cut an eighth off height and width.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from foveal.errors import FovealError
from foveal.tasks.classification.preprocessing import Preprocessing

SEVERITIES = (1, 2, 3, 4, 5)

#: AlexNet's top-1 error on each corruption, the mean over its severities, as a fraction.
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
        errors: percent by corruption, one number a severity from 1 to 5.
    """

    errors: dict[str, tuple[float, ...]]

    @property
    def means(self) -> dict[str, float]:
        """Percent by corruption, over its severities."""
        return {name: fmean(errors) for name, errors in self.errors.items()}

    @property
    def relative(self) -> dict[str, float]:
        """CE: a corruption's errors, summed over severities, over the sum of AlexNet's; percent."""
        return {name: mean / ALEXNET[name] for name, mean in self.means.items()}

    @property
    def mce(self) -> float:
        """Mean of the relative errors over corruptions; percent, 100 is AlexNet."""
        return fmean(self.relative.values())

    @property
    def mean_error(self) -> float:
        """Mean of the errors themselves over corruptions and severities; percent."""
        return fmean(self.means.values())


def uncropped(fit: Preprocessing) -> Preprocessing:
    """The same, for images that are cut already."""
    return replace(fit, whole_from=0)


def corruption_folders(root: Path) -> dict[tuple[str, int], Path]:
    """The folder of each corruption and severity, in the order of ALEXNET: ``root/<corruption>/<severity>``, or one
    level deeper, as in ``root/noise/gaussian_noise/1``. What else lies there (the four extra corruptions) is not used.

    Raises:
        FovealError: some are missing; the sentence names them.
    """
    places = {name: _place(root, name) for name in ALEXNET}
    missing = [name for name, place in places.items() if place is None]
    if missing:
        raise FovealError(f"{root} lacks {_listed(missing)} of ImageNet-C's 15 corruptions: unpack them there.")
    found = {
        (name, severity): place / str(severity) for name, place in places.items() if place for severity in SEVERITIES
    }
    missing = [f"{name}/{severity}" for (name, severity), folder in found.items() if not folder.is_dir()]
    if missing:
        raise FovealError(f"{root} lacks {_listed(missing)} of ImageNet-C's severities: unpack them there.")
    return found


def _place(root: Path, name: str) -> Path | None:
    beside = sorted(folder / name for folder in root.iterdir() if folder.is_dir())
    return next((place for place in (root / name, *beside) if place.is_dir()), None)


def _listed(names: list[str], shown: int = 15) -> str:
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")
