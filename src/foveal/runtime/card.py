"""What an exported file says about itself: its input, its preprocessing, its classes, and whom to credit.

ONNX files hold the card in their metadata, OpenVINO's in ``rt_info``, both under ``KEY`` as one JSON text; formats
without metadata have it in a file beside them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from foveal.errors import FovealError
from foveal.types import Size

KEY = "foveal"


@dataclass(frozen=True)
class Input:
    """The images that a file takes: float32, RGB, normalised, channels first.

    Attributes:
        name: of the input.
        batch: images per call; None for any number.
        size: (height, width) in pixels that the file was exported at.
        any_size: whether other sizes run, too.
        channels: 3, or whatever the network was built for.
        smallest: side in pixels, if other sizes run.
    """

    name: str
    batch: int | None
    size: Size
    any_size: bool = False
    channels: int = 3
    smallest: int = 64


@dataclass(frozen=True)
class Resizing:
    """How an image becomes the input: resized, cropped at its centre, scaled to 0 to 1, and normalised per channel.

    With ``whole`` the whole image is resized to the size of the file, ignoring its aspect ratio. Otherwise its short
    side is resized to the size / ``crop``. At other sizes than the file's, whole images are taken where the short side
    is at least ``whole_from`` pixels.

    With ``padded``, as for detectors and segmenters, the aspect ratio is kept, and after the normalisation zeros fill
    the rest; settings say the size, see ``foveal.runtime.detection`` and ``foveal.runtime.segmentation``.
    """

    crop: float
    whole: bool
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    whole_from: int | None = None
    padded: bool = False

    def takes_whole(self, size: Size) -> bool:
        """Return whether whole images are resized to ``size``."""
        return self.whole if self.whole_from is None else min(size) >= self.whole_from


@dataclass(frozen=True)
class Card:
    """What an exported file says about itself.

    Attributes:
        task: "classification", "detection", "segmentation" or "features".
        model: timm's name of the backbone.
        precision: "fp32", "bf16", "fp16" or "int8".
        outputs: names of the outputs, in order: "logits" of a classifier (B, classes); "stage1" to "stage4" of a
            pyramid; "boxes" (1, A, 4) and "scores" (1, A, classes) of a detector's A anchors; "scores" (1, classes, H,
            W) of a segmenter.
        classes: one name per class, in order; empty for features.
        credit: the authors of the network and its licence.
        foveal: the version that wrote the file.
        settings: more of a task, in plain types.
    """

    task: str
    model: str
    precision: str
    input: Input
    resizing: Resizing
    outputs: tuple[str, ...]
    classes: tuple[str, ...]
    credit: str
    foveal: str
    settings: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """Return the card as one JSON text."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def of(cls, text: str, where: object) -> Card:
        """Return the card in a JSON text.

        Args:
            where: the file, for the error.

        Raises:
            FovealError: the text is damaged, or of a version whose cards differ.
        """
        try:
            entries = json.loads(text)
            given, resizing = entries.pop("input"), entries.pop("resizing")
            given["size"] = tuple(given["size"])
            resizing |= {name: tuple(resizing[name]) for name in ("mean", "std")}
            entries |= {name: tuple(entries[name]) for name in ("outputs", "classes")}
            card = cls(input=Input(**given), resizing=Resizing(**resizing), **entries)
            card._check()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise FovealError(
                f"The description in {where} is damaged or of a newer version: update foveal, or export the network "
                "again."
            ) from error
        return card

    def _check(self) -> None:
        """Raise ValueError for numbers that cannot be of a file."""
        given, how = self.input, self.resizing
        if min(given.size) < 1 or not how.crop > 0 or not all(how.std):
            raise ValueError("numbers must be positive")
        if {len(how.mean), len(how.std)} - {1, given.channels}:
            raise ValueError("mean and std have a number per channel")
