"""Load weights of detectors and segmenters, whole or not at all: from our files, and from the authors' files, which
MMDetection and MMSegmentation saved."""

import re
from dataclasses import replace

from torch import Tensor

from foveal.models.load_report import CheckpointError, LoadReport, Problem
from foveal.models.loading import compare, filter_of
from foveal.models.pyramid import Pyramid
from foveal.models.unwrapping import has_backbone, peeled
from foveal.models.weights_file import WeightsFile, WeightsSource, errors_name
from foveal.tasks.dense.model import DenseModel
from foveal.tasks.registry import noun

_BACKBONE, _OURS = "backbone.", "backbone.net."


def load_dense(model: DenseModel, path: WeightsSource, *, new_classes: bool = False) -> LoadReport:
    """Load weights from a local file, or raise and leave the model as it was.

    Args:
        model: created with the backbone, classes and options of the file.
        path: a ``.pth``, ``.pt`` or ``.safetensors`` file of ours or of the authors (``backbone.``, ``neck.``,
            ``decode_head.``, ...), its state dict bare or wrapped; or an opened ``WeightsFile``.
        new_classes: accept a file of a model for another number of classes; the layers that belong to classes keep
            their initial values.

    Position tables of a TransXNet adapt to another image size. Nothing but tensors and plain containers is unpickled.

    Raises:
        CheckpointError: the file is missing, damaged, holds something else, or would leave the model half loaded.
    """
    file = WeightsFile.open(path)
    with errors_name(file.path):
        state = state_in_our_names(peeled(file.state, has_backbone), model)
        report = compare(state, model)
        if new_classes:
            report = _without_classes(report, model.class_layers)
        if not report.complete:
            raise CheckpointError(Problem.MISFIT, type(model).__name__, model.called, report=report)
    model.load_state_dict({name: state[name] for name in report.loaded}, strict=not report.new)
    return replace(report, left_out=max(len(file.state) - len(report.loaded), 0))


def _without_classes(report: LoadReport, layers: tuple[str, ...]) -> LoadReport:
    """Return the report with all class layers new if any has another shape: equal shapes then mean other classes."""
    if not any(name.startswith(layers) for name, _, _ in report.misshaped):
        return report
    return replace(
        report,
        loaded=tuple(name for name in report.loaded if not name.startswith(layers)),
        misshaped=tuple(found for found in report.misshaped if not found[0].startswith(layers)),
        new=tuple(name for name in (*report.loaded, *(m[0] for m in report.misshaped)) if name.startswith(layers)),
    )


def state_in_our_names(state: dict[str, Tensor], model: DenseModel) -> dict[str, Tensor]:
    """Return the weights of a file by their names in ``model``, position tables resized to its image size.

    Raises:
        CheckpointError: weights of another kind of network or backbone.
    """
    if any(name.startswith(_OURS) for name in state):
        return state
    backbone = {name.removeprefix(_BACKBONE): t for name, t in state.items() if name.startswith(_BACKBONE)}
    if not backbone:
        raise CheckpointError(Problem.NO_HEAD, model.called)
    rest = {_rename(name, model): t for name, t in state.items() if not name.startswith(_BACKBONE)}
    body = model.backbone.body
    if isinstance(body, Pyramid):
        backbone = filter_of(body)(backbone, body)
    return {**{f"{_place(model)}.{name}": t for name, t in backbone.items()}, **model.adapt_released(rest)}


def start_from(model: DenseModel, path: WeightsSource) -> LoadReport:
    """Load the whole model from a file of its kind, or the backbone from a file of any other; layers for other classes
    keep their initial values. The report names the tensors of the whole model.

    Raises:
        FovealError: the file is missing, broken, or does not fit.
    """
    file = WeightsFile.open(path)
    kind = None if file.metadata is None else noun(file.metadata.get("task", "classification"))
    if file.has_head and kind in (None, model.called):
        return load_dense(model, file, new_classes=True)
    return of_backbone(model, model.backbone.load(file))


def of_backbone(model: DenseModel, report: LoadReport) -> LoadReport:
    """Return a report on the backbone's network as one on the whole model, in which everything else is new."""
    loaded = {f"{_place(model)}.{name}" for name in report.loaded}
    names = list(model.state_dict())
    return replace(
        report,
        loaded=tuple(name for name in names if name in loaded),
        new=tuple(name for name in names if name not in loaded),
    )


def _place(model: DenseModel) -> str:
    """Return the name of the backbone's network in the model."""
    return next(name for name, module in model.named_modules() if module is model.backbone.body)


def _rename(name: str, model: DenseModel) -> str:
    for pattern, replacement in model.released_renames:
        if re.match(pattern, name):
            return re.sub(pattern, replacement, name)
    return name


def split_attention(state: dict[str, Tensor], layers: str) -> dict[str, Tensor]:
    """Split each ``in_proj`` of ``nn.MultiheadAttention`` into query, key and value.

    Args:
        layers: pattern of the names of the layers to split.
    """
    split = {}
    for name, tensor in state.items():
        packed = re.fullmatch(rf"({layers})\.in_proj_(weight|bias)", name)
        if packed is None:
            split[name] = tensor
            continue
        for part, rows in zip(("q_proj", "k_proj", "v_proj"), tensor.chunk(3), strict=True):
            split[f"{packed[1]}.{part}.{packed[2]}"] = rows
    return split
