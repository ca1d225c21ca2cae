"""A detector filled from a file, whole or not at all: the authors' files, which MMDetection saved, and our own."""

import re
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from foveal.models.pyramid import Pyramid
from foveal.models.released import (
    CheckpointError,
    LoadReport,
    compare,
    filter_of,
    read_file,
    unwrap,
    without_wrappers,
)
from foveal.tasks.detection.detector import Detector

_BACKBONE, _OURS = "backbone.", "backbone.net."


def load_detector(detector: Detector, path: str | Path, *, new_classes: bool = False) -> LoadReport:
    """Fill a detector from a local file, or raise and leave it as it was.

    Args:
        detector: as it was when the file was saved: backbone, classes and options.
        path: a ``.pth``, ``.pt`` or ``.safetensors`` file, of the authors' (``backbone.``, ``neck.``, ``rpn_head.``
            and so on) or of ours, its state dict bare or wrapped.
        new_classes: accept a file of a detector for another number of classes; the layers that belong to classes keep
            their initial values.

    Position tables of a TransXNet adapt to another image size. Nothing but tensors and plain containers is unpickled.

    Raises:
        CheckpointError: the file is missing, damaged, holds something else, or would leave the detector half loaded.
    """
    try:
        content = unwrap(read_file(path))
        state = state_in_our_names(without_wrappers(content), detector)
        report = compare(state, detector)
        if new_classes:
            report = _without_classes(report, detector.class_layers)
        if not report.complete:
            kind = type(detector).__name__
            raise CheckpointError(f"does not fit this {kind}: {report}; create the detector that it was saved from")
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    detector.load_state_dict({name: state[name] for name in report.loaded}, strict=not report.new)
    return replace(report, left_out=max(len(content) - len(report.loaded), 0))


def _without_classes(report: LoadReport, layers: tuple[str, ...]) -> LoadReport:
    """All layers of classes are new as soon as one has another shape: what is alike in number means other classes."""
    if not any(name.startswith(layers) for name, _, _ in report.misshaped):
        return report
    return replace(
        report,
        loaded=tuple(name for name in report.loaded if not name.startswith(layers)),
        misshaped=tuple(found for found in report.misshaped if not found[0].startswith(layers)),
        new=tuple(name for name in (*report.loaded, *(m[0] for m in report.misshaped)) if name.startswith(layers)),
    )


def state_in_our_names(state: dict[str, Tensor], detector: Detector) -> dict[str, Tensor]:
    """The weights of a file by their names in ``detector``, in its shapes where only an image size differs.

    Raises:
        CheckpointError: no detector's weights, or another backbone's.
    """
    if any(name.startswith(_OURS) for name in state):
        return state
    backbone = {name.removeprefix(_BACKBONE): t for name, t in state.items() if name.startswith(_BACKBONE)}
    if not backbone:
        raise CheckpointError("holds no detector: no name in it begins with backbone.; give a whole detector's file")
    rest = {_rename(name, detector): t for name, t in state.items() if not name.startswith(_BACKBONE)}
    body = detector.backbone.body
    if isinstance(body, Pyramid):
        backbone = filter_of(body)(backbone, body)
    place = next(name for name, module in detector.named_modules() if module is body)
    return {**{f"{place}.{name}": t for name, t in backbone.items()}, **detector.adapt_released(rest)}


def _rename(name: str, detector: Detector) -> str:
    for pattern, replacement in detector.released_renames:
        if re.match(pattern, name):
            return re.sub(pattern, replacement, name)
    return name
