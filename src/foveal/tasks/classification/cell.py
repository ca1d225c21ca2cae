"""What an evaluation of a classifier found: one set in one mode at one size."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from foveal.models.quantized import QuantizationReport
from foveal.tasks.classification.answers import class_accuracies
from foveal.tasks.classification.data import Images
from foveal.tasks.classification.imagenet.corruptions import CorruptionErrors
from foveal.tasks.classification.imagenet.sets import SetName, set_title
from foveal.tasks.classification.int8 import CalibrationImages
from foveal.tasks.classification.modes import Mode
from foveal.tasks.classification.score import Score
from foveal.types import Size


@dataclass(frozen=True)
class Int8:
    """How the network of a cell was quantized.

    Attributes:
        report: what runs in int8.
        calibration: the images that it was calibrated on.
    """

    report: QuantizationReport
    calibration: CalibrationImages

    def document(self) -> dict[str, Any]:
        """Return the summary in plain types."""
        report = self.report
        return {
            "layers": report.in_int8,
            "of": len(report.layers),
            "share": report.share,
            "cosine": report.cosine,
            "calibration_images": report.images,
            "calibration_data": self.calibration.place,
        }


@dataclass(frozen=True)
class Cell:
    """One set in one mode at one size.

    Attributes:
        classes: names of the evaluated classes.
        paper: the published top-1, or mCE of ImageNet-C, in percent, if there is one to compare with.
        int8: how the network was quantized, if it was.
        split: the split that was asked for as "val".
        read: the name of the set that was read for it, such as "valid".
        notices: sentences about what was found beside the images and left out.
        source: the evaluated images; None for ImageNet-C.
    """

    set: SetName
    mode: Mode | None
    size: Size
    pool_size: int | None
    score: Score
    classes: Sequence[str]
    paper: float | None = None
    corruptions: CorruptionErrors | None = None
    int8: Int8 | None = None
    split: str = "val"
    read: str = "val"
    notices: tuple[str, ...] = ()
    source: Images | None = field(default=None, compare=False, repr=False)

    @property
    def is_val(self) -> bool:
        """Whether the validation set was asked for."""
        return self.set == self.split == "val"

    @property
    def title(self) -> str:
        """The name of the set that was read, for people."""
        return self.split if self.set == "val" and not self.is_val else set_title(self.set)

    @property
    def uncounted(self) -> list[str]:
        """The classes that have no image."""
        return [name for name, count in zip(self.classes, self.score.per_class, strict=True) if not count]

    def document(self) -> dict[str, Any]:
        """Return the result in plain types."""
        found = self.score
        result = {
            "set": self.read if self.set == "val" else self.set,
            "mode": self.mode,
            "size": list(self.size),
            "pool_size": self.pool_size,
            "images": found.images,
            **found.accuracies(),
            "loss": found.loss,
            "images_per_second": found.images_per_second,
            "classes": len(self.classes),
            "scored_classes": len(self.classes) - len(self.uncounted),
            "classes_without_examples": self.uncounted,
            "classes_without_images": self.uncounted,
            "broken": found.broken,
            "broken_names": list(found.broken_names),
            "paper": self.paper,
        }
        return {
            **result,
            **self._by_class(),
            **({} if self.corruptions is None else _document(self.corruptions)),
            **({} if self.int8 is None else {"int8": self.int8.document()}),
        }

    def _by_class(self) -> dict[str, Any]:
        answers = self.score.answers
        if answers is None:
            return {}
        accuracies = class_accuracies(answers.confusion(len(self.classes)))
        rows = zip(self.classes, self.score.per_class, accuracies, strict=True)
        return {
            "by_class": [{"class": name, "images": count, "accuracy": one} for name, count, one in rows],
            "calibration": answers.calibration().document(),
        }


def _document(found: CorruptionErrors) -> dict[str, Any]:
    by_name = {name: {"errors": list(errors), "ce": found.relative[name]} for name, errors in found.errors.items()}
    return {"mce": found.mce, "mean_error": found.mean_error, "corruptions": by_name}
