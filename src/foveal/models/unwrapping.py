"""How trainers wrap weights: the keys that they save state dicts under, and the prefixes before names.

A file may hold several networks. The averaged one is taken before the one that was trained, as in timm, since that is
the one to evaluate; a teacher beside its student is such an average. If two networks could be meant, the file is
refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .load_report import CheckpointError, Problem

# The table: what a state dict is saved under, and what names begin with, before a dot.
_AVERAGED = (
    *("state_dict_ema", "ema_state_dict", "model_ema_state_dict", "ema_model_state_dict"),
    *("ema", "model_ema", "ema_model", "shadow", "params_ema"),
)
_STUDENT, _TEACHER = "student", "teacher"
_TRANSPARENT = ("_orig_mod", "module")  # what compiling and parallel training add
_TRAINED = (
    *("state_dict", "model_state_dict", "model_state"),
    *("model", "net", "network", _STUDENT, _TEACHER, *_TRANSPARENT),
)
_VAGUE = ("weights", "params", "model_weights")  # taken if no other name is there
_PARTS = ("backbone", "encoder")  # of a larger network; transformers on a backbone have an encoder, too
_AVERAGING_COUNTER = "n_averaged"  # of torch.optim.swa_utils.AveragedModel, beside the names under ``module.``


@dataclass(frozen=True)
class Unwrapped:
    """A state dict without its wrappers.

    Attributes:
        state: tensors by name.
        wrapper: keys that led to it, outermost first.
        prefixes: prefixes that were removed from every name.
        beside: keys of the other networks, which were not taken.
    """

    state: dict[str, Tensor]
    wrapper: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    @property
    def averaged(self) -> bool:
        """Whether the keys say that these are averaged weights (an EMA)."""
        return any(key in (*_AVERAGED, _TEACHER) for key in self.wrapper)


def unwrap(content: Mapping[str, Any]) -> Unwrapped:
    """Return the tensors in a file's content, without keys, and without prefixes that every name has.

    Raises:
        CheckpointError: there are none, or of several networks.
    """
    wrapper: list[str] = []
    beside: list[str] = []
    while (key := _key_of_weights(content)) is not None:
        wrapper.append(key)
        beside += [name for name in _networks_in(content) if name != key]
        content = content[key]
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise CheckpointError(Problem.NO_WEIGHTS, *map(str, list(content)[:6]))
    state = {name: tensor for name, tensor in state.items() if name != _AVERAGING_COUNTER}
    prefixes: list[str] = []
    while (prefix := next((p for p in _TRANSPARENT if _all_begin(state, p)), None)) is not None:
        state = _inside(state, prefix)
        prefixes.append(f"{prefix}.")
    return Unwrapped(state, tuple(wrapper), tuple(prefixes), tuple(beside))


def peeled(state: Mapping[str, Tensor], fits: Callable[[Mapping[str, Tensor]], bool]) -> dict[str, Tensor]:
    """Return the tensors of a network inside of another one, without the prefixes of their names.

    Args:
        fits: whether tensors are those that are looked for; if none ever are, ``state`` is returned.

    Raises:
        CheckpointError: several networks are inside.
    """
    inner = dict(state)
    while not fits(inner):
        first = {name.partition(".")[0] for name in inner if "." in name}
        prefix = _part(first) or _meant(first)
        if prefix is None:
            return dict(state)
        inner = _inside(inner, prefix)
    return inner


def has_backbone(state: Mapping[str, Tensor]) -> bool:
    """Whether some of the tensors are of a detector's or segmenter's backbone."""
    return any(name.startswith("backbone.") for name in state)


def _key_of_weights(content: Mapping[str, Any]) -> str | None:
    """Return the key that the state dict is under; None if ``content`` is one, or holds none."""
    holding = _networks_in(content)
    return _meant(holding) or _part(holding)


def _networks_in(content: Mapping[str, Any]) -> list[str]:
    """Return the keys of the table that weights are under."""
    keys = (*_AVERAGED, *_TRAINED, *_VAGUE, *_PARTS)
    return [
        name for name, value in content.items() if name in keys and isinstance(value, Mapping) and _holds_weights(value)
    ]


def _holds_weights(content: Mapping[str, Any]) -> bool:
    """Whether tensors are in ``content``, or under a key of the table in it."""
    return any(isinstance(value, Tensor) for value in content.values()) or bool(_networks_in(content))


def _meant(names: Collection[str]) -> str | None:
    """Return the name of the one network that is meant; None if there is no name of the table."""
    averaged = [name for name in _AVERAGED if name in names]
    trained = [name for name in _TRAINED if name in names]
    vague = [name for name in _VAGUE if name in names]
    found = averaged or ([_TEACHER] if trained == [_STUDENT, _TEACHER] else trained) or vague
    if len(found) > 1:
        raise CheckpointError(Problem.SEVERAL_NETWORKS, *found)
    return found[0] if found else None


def _part(names: Collection[str]) -> str | None:
    return next((name for name in _PARTS if name in names), None)


def _inside(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    begin = f"{prefix}."
    return {name[len(begin) :]: tensor for name, tensor in state.items() if name.startswith(begin)}


def _all_begin(state: Mapping[str, Tensor], prefix: str) -> bool:
    return bool(state) and all(name.startswith(f"{prefix}.") for name in state)
