"""From any file that holds a network's weights to a state dict in our names, with a report of what does not fit.

Accepted: a state dict; one wrapped under `model`, `state_dict` or an EMA name; names behind `module.`, `_orig_mod.` or
`backbone.`; whole detectors and segmenters, of which the backbone is taken. Nothing is unpickled beyond tensors, plain
containers and argument namespaces.
"""

from __future__ import annotations

import argparse
import pickle
import re
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import adapt_input_conv
from timm.models._features import FeatureGetterNet
from torch import Tensor, nn

from foveal.errors import FovealError

from .configs import CLASSIFIER, FIRST_CONV

Renames = Sequence[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]]

# Where trainers put the weights; averaged weights come first, as in timm, because they are the ones that get published.
_WRAPPERS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "state_dict", "model")
_PREFIXES = ("_orig_mod.", "module.", "_orig_mod.")
# Parts of names that only one family has, in the released naming or in ours.
_FAMILIES = {
    "TransNeXt": re.compile(r"^block1\.|\.attn\.cpb_fc1\."),
    "TransXNet": re.compile(r"^relative_pos_enc\.|\.token_mixer\."),
}

# What PyTorch's and safetensors' readers raise on files that were cut short or overwritten.
_DAMAGED = (
    SafetensorError, RuntimeError, OSError, EOFError, ValueError, TypeError, AttributeError, LookupError, struct.error,
)  # fmt: skip


class CheckpointError(FovealError):
    """A file whose weights cannot be loaded whole; the text says what is wrong with it."""


@dataclass(frozen=True)
class LoadReport:
    """What became of the names in a file.

    Attributes:
        loaded: names taken over.
        missing: names that the net has and the file has not.
        unexpected: names of the file that the net has no place for.
        misshaped: (name, shape in the file, shape in the net).
        left_out: how many tensors of the file belong to parts that this net was built without: a detector's heads, a
            removed classifier.
        new: names of the net that keep their initial values because the caller asked for it.
    """

    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshaped: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    new: tuple[str, ...] = ()
    left_out: int = 0

    @property
    def complete(self) -> bool:
        """Whether every tensor of the net was filled, and every one of the file used or left out on purpose."""
        return not (self.missing or self.unexpected or self.misshaped)

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors loaded"]
        for label in ("missing", "unexpected", "misshaped", "new"):
            names = getattr(self, label)
            if names:
                first = names[0] if isinstance(names[0], str) else "{} is {}, the net has {}".format(*names[0])
                parts.append(f"{len(names)} {label} (first: {first})")
        if self.left_out:
            parts.append(f"{self.left_out} left out")
        return ", ".join(parts)


def load_checkpoint(net: nn.Module, path: str | Path, *, new_classifier: bool = False) -> LoadReport:
    """Fill a net of this library from a local file, or raise and leave it as it was.

    Args:
        net: a TransNeXt or TransXNet, also one made with `features_only=True`.
        path: a `.pth`, `.pt`, `.tar` or `.safetensors` file in any of the wrappings named above.
        new_classifier: accept a file whose classifier has another number of classes, or none; ours keeps its initial
            values.

    The first convolution adapts to another number of input channels, position tables to another image size.

    Raises:
        CheckpointError: the file is missing, damaged, holds something else, or would leave the net half loaded.
    """
    backbone = net.model if isinstance(net, FeatureGetterNet) else net
    filter_fn = filter_of(backbone)
    try:
        content = read_file(path)
        state = filter_fn(content, backbone)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    state = adapt_first_conv(state, backbone)
    report = compare(state, backbone)
    if new_classifier:
        report = _without_classifier(report)
    if not report.complete:
        raise CheckpointError(f"{path}: does not fit this net: {report}; {_advice(report)}")
    backbone.load_state_dict({name: state[name] for name in report.loaded}, strict=not report.new)
    return replace(report, left_out=max(len(unwrap(content)) - len(report.loaded), 0))


@contextmanager
def without_feature_norms(net: nn.Module) -> Iterator[None]:
    """The net without the norms that only its feature maps have, which no classifier's file has; then with them
    again."""
    norms = [(stage, stage.feature_norm) for stage in net.stages if hasattr(stage, "feature_norm")]
    for stage, _ in norms:
        stage.feature_norm = nn.Identity()
    try:
        yield
    finally:
        for stage, norm in norms:
            stage.feature_norm = norm


def _advice(report: LoadReport) -> str:
    """What to do about a report that is not complete."""
    misfits = [*report.missing, *report.unexpected, *(name for name, _, _ in report.misshaped)]
    if all(name.startswith(CLASSIFIER + ".") for name in misfits):
        return "for another classifier pass new_classifier=True, for none create the net with num_classes=0"
    return "create the net that it was saved from"


def read_file(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint file, on the CPU. Raises CheckpointError; never runs code from the file."""
    path = Path(path)
    if path.is_dir():
        raise CheckpointError("is a folder; give the path of the checkpoint file in it")
    if not path.is_file():
        raise CheckpointError("no such file; give the path of a downloaded or saved checkpoint")
    if path.stat().st_size == 0:
        raise CheckpointError("is empty; download or save it again")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # Trainers in timm's tradition keep their arguments in the file; a namespace is as harmless as a dict.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Weights only load failed" not in str(error):
            raise CheckpointError("is not a PyTorch checkpoint, or a damaged one; download or save it again") from None
        raise CheckpointError(
            "holds Python objects beside weights, which are not loaded for safety; save its state dict alone"
        ) from None
    except PermissionError:
        raise CheckpointError("may not be read by you; change its permissions") from None
    except _DAMAGED as error:
        raise CheckpointError("is damaged or cut short; download or save it again") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"holds a {type(content).__name__}, not a state dict; save net.state_dict() instead")
    return dict(content)


def prepare_state_dict(content: Mapping[str, Any], net: nn.Module, renames: Renames) -> dict[str, Tensor]:
    """Unwrap, rename and adapt `content` for `net`; raise CheckpointError where anything but classifier and first conv
    misfits."""
    state = _strip_prefixes(unwrap(content))
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
        raise CheckpointError(f"does not fit this {type(net).__name__}: {left}; create the net that it was saved from")
    return state


def compare(state: Mapping[str, Tensor], net: nn.Module) -> LoadReport:
    """Which names of `state` fit `net`, by name and shape."""
    ours = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in state.items()}
    return LoadReport(
        loaded=tuple(n for n in ours if theirs.get(n) == ours[n]),
        missing=tuple(n for n in ours if n not in theirs),
        unexpected=tuple(n for n in theirs if n not in ours),
        misshaped=tuple((n, theirs[n], ours[n]) for n in ours if n in theirs and theirs[n] != ours[n]),
    )


def adapt_first_conv(state: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Fit the first convolution to the net's number of input channels, as timm does (its name is timm's to know)."""
    name = FIRST_CONV + ".weight"
    weight = state.get(name)
    if weight is None or weight.ndim != 4 or weight.shape[1] != 3 or net.in_chans == 3:
        return state
    return {**state, name: adapt_input_conv(net.in_chans, weight)}


def filter_of(net: nn.Module) -> Callable[[dict, nn.Module], dict[str, Tensor]]:
    """The `checkpoint_filter_fn` of a backbone's own file. Raises CheckpointError for a net of another library."""
    filter_fn = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if filter_fn is None or not hasattr(net, "adapt_state_dict"):
        raise CheckpointError(f"foveal loads weights into TransNeXt and TransXNet; this net is a {type(net).__name__}")
    return filter_fn


def unwrap(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a file's content, by name, out of what trainers put around them. CheckpointError if none."""
    while True:
        inner = next((content[w] for w in _WRAPPERS if isinstance(content.get(w), Mapping)), None)
        if inner is None:
            break
        content = inner
    state = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise CheckpointError(
            f"holds no weights; its top level has {', '.join(map(str, list(content)[:6])) or 'nothing'}"
        )
    return state


def _strip_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without what wrappers put before them; of a detector or segmenter, the backbone alone."""
    state = without_wrappers(state)
    for prefix in ("backbone.", "net.", "model."):
        inner = {name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)}
        if inner:
            return _strip_prefixes(inner)
    return state


def without_wrappers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without what compiling, parallel training and averaging put before all of them."""
    # The counter of torch.optim.swa_utils.AveragedModel stands beside names behind `module.`.
    state = {name: tensor for name, tensor in state.items() if name != "n_averaged"}
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name[len(prefix) :]: tensor for name, tensor in state.items()}
    return state


def _rename(name: str, renames: Renames) -> str:
    for pattern, replacement in renames:
        name = pattern.sub(replacement, name)
    return name


def _check_family(state: Mapping[str, Tensor], net: nn.Module) -> None:
    for family, marks in _FAMILIES.items():
        if family != type(net).__name__ and any(marks.search(name) for name in state):
            raise CheckpointError(
                f"holds a {family}, this net is a {type(net).__name__}; create the {family} that it was saved from"
            )


def _drop_absent_parts(state: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Leave out what belongs to a classifier or to stages that this net was built without, or that were pruned away."""
    ours = set(net.state_dict())
    present = {name.split(".")[0] if not name.startswith("stages.") else ".".join(name.split(".")[:2]) for name in ours}
    absent = [part for part in ("head", "norm", *(f"stages.{i}" for i in range(4))) if part not in present]
    return {n: t for n, t in state.items() if not n.startswith(tuple(f"{part}." for part in absent))}


def _without_classifier(report: LoadReport) -> LoadReport:
    prefix = CLASSIFIER + "."
    return LoadReport(
        loaded=report.loaded,
        missing=tuple(n for n in report.missing if not n.startswith(prefix)),
        unexpected=report.unexpected,
        misshaped=tuple(m for m in report.misshaped if not m[0].startswith(prefix)),
        new=tuple(n for n in (*report.missing, *(m[0] for m in report.misshaped)) if n.startswith(prefix)),
    )
