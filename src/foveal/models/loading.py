"""Weights from a file into a backbone: renamed to our names, adapted, and loaded whole or not at all."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from timm.models import adapt_input_conv
from timm.models._features import FeatureGetterNet
from torch import Tensor, nn

from .load_report import CheckpointError, LoadReport, Problem
from .registration import CLASSIFIER, FIRST_CONV
from .unwrapping import peeled, unwrap
from .weights_file import WeightsFile, WeightsSource, errors_name

Renames = Sequence[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]]

QUANTIZED = ".weight_scale"  # ends the names of a tensor of every int8 layer
# Names of either family begin so, in the released naming or in ours; those of a larger network do not.
_BEGINNINGS = re.compile(r"(patch_embed\d*|stages|block\d|network\.\d|relative_pos_enc)\.")
# Parts of names that only one family has, in the released naming or in ours.
_FAMILIES = {
    "TransNeXt": re.compile(r"\.attn\.cpb_fc1\."),
    "TransXNet": re.compile(r"^relative_pos_enc\.|\.token_mixer\."),
    "PVT": re.compile(r"^pos_embed1$|\.position_embedding$"),
}


def load_checkpoint(net: nn.Module, path: WeightsSource, *, new_classifier: bool = False) -> LoadReport:
    """Load weights from a file into a network of this library, or raise and leave the network as it was.

    Args:
        net: a TransNeXt or TransXNet, also one created with ``features_only=True``.
        path: a ``.pth``, ``.pt``, ``.tar`` or ``.safetensors`` file, or an opened ``WeightsFile``. It may hold a bare
            state dict, one wrapped as trainers do (``model``, ``state_dict``, ``net``, the name of an EMA, ...), names
            with prefixes (``module.``, ``_orig_mod.``, ``encoder.``, ...), or a whole detector or segmenter, whose
            backbone is taken; see ``unwrapping``.
        new_classifier: accept a file whose classifier has another number of classes, or none; the network's own keeps
            its initial values.

    The first convolution adapts to another number of input channels, position tables to another image size.

    Raises:
        CheckpointError: the file is missing, damaged, holds something else, or would leave the network half loaded.
    """
    backbone = net.model if isinstance(net, FeatureGetterNet) else net
    filter_fn = filter_of(backbone)
    file = WeightsFile.open(path)
    with errors_name(file.path):
        state = adapt_first_conv(filter_fn(file.state, backbone), backbone)
        report = compare(state, backbone)
        if new_classifier:
            report = _without_classifier(report)
        if not report.complete:
            raise _misfit(report, backbone)
    backbone.load_state_dict({name: state[name] for name in report.loaded}, strict=not report.new)
    return replace(report, left_out=max(len(file.state) - len(report.loaded), 0))


@contextmanager
def without_feature_norms(net: nn.Module) -> Iterator[None]:
    """Remove the norms of feature maps, which no classifier's file has, from a network inside the block."""
    norms = [(stage, stage.feature_norm) for stage in net.stages if hasattr(stage, "feature_norm")]
    for stage, _ in norms:
        stage.feature_norm = nn.Identity()
    try:
        yield
    finally:
        for stage, norm in norms:
            stage.feature_norm = norm


def _misfit(report: LoadReport, net: nn.Module) -> CheckpointError:
    other_classes = all(name.startswith(CLASSIFIER + ".") for name in report.misfits)
    problem = Problem.OTHER_CLASSES if other_classes else Problem.MISFIT
    return CheckpointError(problem, type(net).__name__, "net", report=report)


def prepare_state_dict(content: Mapping[str, Any], net: nn.Module, renames: Renames) -> dict[str, Tensor]:
    """Unwrap, rename and adapt the content of a file for ``net``.

    Raises:
        CheckpointError: anything but the classifier and the first convolution does not fit.
    """
    state = peeled(unwrap(content).state, lambda inner: any(_BEGINNINGS.match(name) for name in inner))
    if any(name.endswith(QUANTIZED) for name in state):
        raise CheckpointError(Problem.QUANTIZED)
    _check_family(state, net)
    state = {_rename(name, renames): tensor for name, tensor in state.items()}
    state = net.adapt_state_dict(_drop_absent_parts(state, net))
    # BatchNorm's counters, which evaluation ignores and some exporters leave out.
    counters = {name: t for name, t in net.state_dict().items() if name.endswith("num_batches_tracked")}
    state = {**counters, **state}
    report = compare(state, net)
    adaptable = (CLASSIFIER + ".", FIRST_CONV + ".")
    left = LoadReport(
        missing=tuple(n for n in report.missing if not n.startswith(adaptable)),
        unexpected=report.unexpected,
        misshaped=tuple(m for m in report.misshaped if not m[0].startswith(adaptable)),
        loaded=report.loaded,
    )
    if not left.complete:
        raise CheckpointError(Problem.MISFIT, type(net).__name__, "net", report=left)
    return state


def compare(state: Mapping[str, Tensor], net: nn.Module) -> LoadReport:
    """Compare a state dict with a network, by name and shape."""
    ours = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in state.items()}
    return LoadReport(
        loaded=tuple(n for n in ours if theirs.get(n) == ours[n]),
        missing=tuple(n for n in ours if n not in theirs),
        unexpected=tuple(n for n in theirs if n not in ours),
        misshaped=tuple((n, theirs[n], ours[n]) for n in ours if n in theirs and theirs[n] != ours[n]),
    )


def adapt_first_conv(state: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Adapt the first convolution to the network's number of input channels, as timm does."""
    name = FIRST_CONV + ".weight"
    weight = state.get(name)
    if weight is None or weight.ndim != 4 or weight.shape[1] != 3 or net.in_chans == 3:
        return state
    return {**state, name: adapt_input_conv(net.in_chans, weight)}


def filter_of(net: nn.Module) -> Callable[[dict, nn.Module], dict[str, Tensor]]:
    """Return the ``checkpoint_filter_fn`` of a backbone's own module.

    Raises:
        CheckpointError: the network is of another library.
    """
    filter_fn = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if filter_fn is None or not hasattr(net, "adapt_state_dict"):
        raise CheckpointError(Problem.ANOTHER_LIBRARY, type(net).__name__)
    return filter_fn


def _rename(name: str, renames: Renames) -> str:
    for pattern, replacement in renames:
        name = pattern.sub(replacement, name)
    return name


def _check_family(state: Mapping[str, Tensor], net: nn.Module) -> None:
    for family, marks in _FAMILIES.items():
        if family != type(net).__name__ and any(marks.search(name) for name in state):
            raise CheckpointError(Problem.ANOTHER_FAMILY, family, type(net).__name__)


def _drop_absent_parts(state: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Drop the weights of parts that this network was built without: a classifier, pruned stages, and the norms of
    feature maps, which belong to a detector or segmenter."""
    ours = set(net.state_dict())
    present = {name.split(".")[0] if not name.startswith("stages.") else ".".join(name.split(".")[:2]) for name in ours}
    absent = [part for part in ("head", "norm", *(f"stages.{i}" for i in range(4))) if part not in present]
    kept = {n: t for n, t in state.items() if not n.startswith(tuple(f"{part}." for part in absent))}
    return {n: t for n, t in kept.items() if ".feature_norm." not in n or n in ours}


def _without_classifier(report: LoadReport) -> LoadReport:
    prefix = CLASSIFIER + "."
    return LoadReport(
        loaded=report.loaded,
        missing=tuple(n for n in report.missing if not n.startswith(prefix)),
        unexpected=report.unexpected,
        misshaped=tuple(m for m in report.misshaped if not m[0].startswith(prefix)),
        new=tuple(n for n in (*report.missing, *(m[0] for m in report.misshaped)) if n.startswith(prefix)),
    )
