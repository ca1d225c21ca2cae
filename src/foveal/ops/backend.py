"""The choice of an operator's implementation, and the reasons why others were not chosen.

An operator lists its implementations from fastest to slowest. Each returns the reason why it cannot take a call, or
None. The automatic choice is the first one without a reason; a choice made with ``use_backend`` never falls back: it
raises the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from foveal.near import did_you_mean

from .numerics import transformed

# A plain global, not a context variable: torch.compile guards on it, so a change recompiles instead of being ignored.
_forced: str | None = None


class BackendError(RuntimeError):
    """The selected implementation cannot take this call; the message gives the reason."""


@dataclass(frozen=True)
class Implementation:
    """One way to compute an operator.

    ``run`` takes the operator's normalised arguments. ``unsupported`` takes the same and returns the reason why ``run``
    cannot compute them, or None.
    """

    name: str
    summary: str
    run: Callable[..., Any]
    unsupported: Callable[..., str | None]


@dataclass(frozen=True)
class Explanation:
    """The result of ``explain``: the implementation chosen for a call, and the reason against each one, or None."""

    operator: str
    chosen: str | None
    reasons: dict[str, str | None]
    summaries: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{self.operator}: {self.chosen or 'no implementation takes this call'}"]
        for name, reason in self.reasons.items():
            state = "runs" if name == self.chosen else ("could run" if reason is None else f"not taken: {reason}")
            lines.append(f"  {name:<10} {state}; {self.summaries[name]}")
        return "\n".join(lines)


class Operator:
    """A named operator: the check of its arguments, and its implementations from fastest to slowest."""

    def __init__(self, name: str, normalise: Callable[..., tuple], implementations: tuple[Implementation, ...]):
        self.name = name
        self.normalise = normalise
        self.implementations = implementations

    def choose(self, *call: Any) -> Implementation:
        """Return the implementation for ``call``. Raises BackendError if the forced one, or every one, refuses, and
        ValueError for tensors that none can compute with."""
        self._check(call)
        if self.is_forced:
            return self._forced_implementation(*call)
        reasons = []
        for implementation in self.implementations:
            reason = _why_not(implementation, *call)
            if reason is None:
                return implementation
            reasons.append(f"{implementation.name}: {reason}")
        raise BackendError(f"no implementation of {self.name} takes this call ({'; '.join(reasons)})")

    def _check(self, call: tuple) -> None:
        """Raise ValueError unless all tensors are floating-point and on one device. PyTorch itself accepts many such
        calls and returns wrong results: if one tensor is on "meta", nothing is computed at all."""
        device = call[0].device
        for t in call:
            if isinstance(t, tuple):  # such as the entry of multiscale_dwconv
                self._check((call[0], *t))
            elif not isinstance(t, Tensor):
                continue
            elif not t.is_floating_point():
                raise ValueError(f"{self.name} takes floating-point tensors, got one of {t.dtype}")
            elif t.device != device:
                raise ValueError(
                    f"{self.name} takes tensors on one device, got some on {device} and some on {t.device}"
                )

    @property
    def is_forced(self) -> bool:
        """Whether ``use_backend`` names an implementation of this operator."""
        return any(i.name == _forced for i in self.implementations)

    def _forced_implementation(self, *call: Any) -> Implementation:
        implementation = next(i for i in self.implementations if i.name == _forced)
        reason = _why_not(implementation, *call)
        if reason is not None:
            raise BackendError(f"{self.name} cannot run on backend {_forced!r}: {reason}")
        return implementation

    def explain(self, *args: Any, **kwargs: Any) -> Explanation:
        """Report which implementation runs for these arguments, and why others do not. Computes nothing with them."""
        call = self.normalise(*args, **kwargs)
        self._check(call)
        reasons = {i.name: _why_not(i, *call) for i in self.implementations}
        if self.is_forced:
            reasons = {
                n: r if n == _forced else r or f"use_backend({_forced!r}) is in force" for n, r in reasons.items()
            }
        chosen = next((n for n, r in reasons.items() if r is None), None)
        return Explanation(self.name, chosen, reasons, {i.name: i.summary for i in self.implementations})


def _why_not(implementation: Implementation, *call: Any) -> str | None:
    """Return why an implementation cannot take a call in the current context, or None."""
    if implementation.name != "reference" and transformed():
        return "inside a transform of torch.func or forward-mode differentiation, which only the reference supports"
    return implementation.unsupported(*call)


_operators: dict[str, Operator] = {}


def register(operator: Operator) -> Operator:
    """Make ``operator`` known to ``explain`` and ``use_backend``."""
    _operators[operator.name] = operator
    return operator


def find_operator(name: str) -> Operator:
    """Return the operator called ``name``. Raises ValueError with the known names for an unknown one."""
    if name not in _operators:
        raise ValueError(f"unknown operator {name!r}: choose one of {', '.join(_operators)}")
    return _operators[name]


def known_backends(operator: Operator | None = None) -> list[str]:
    """Return the names of the implementations of one operator or of all, in order of preference."""
    operators = [operator] if operator else list(_operators.values())
    return list(dict.fromkeys(i.name for o in operators for i in o.implementations))


def forced_backend() -> str | None:
    """Return the backend that ``use_backend`` currently forces, or None."""
    return _forced


@contextmanager
def use_backend(name: str | None) -> Iterator[None]:
    """Force one implementation of every operator that has it inside a ``with`` block; None restores the automatic
    choice.

    A call that the named implementation cannot take raises BackendError with the reason: nothing falls back silently.
    An operator without an implementation of that name keeps its automatic choice, such as ``gelu_pool`` under "triton".
    Raises ValueError for a name that no operator has.

    The choice applies to the whole process: other threads see it, and concurrent blocks in several threads overwrite
    each other.
    """
    global _forced
    if name is not None and name not in known_backends():
        known = known_backends()
        near = did_you_mean(name, known, most=1)
        raise ValueError(
            f"unknown backend {name!r}{near}: choose one of {', '.join(known)}, or None for the automatic choice"
        )
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


def explain(operator: str | Callable[..., Any], *args: Any, **kwargs: Any) -> Explanation:
    """Report which implementation ``operator(*args, **kwargs)`` would run, and why the others would not.

    Nothing is computed with the arguments; Triton kernels that are unseen on their device are tried first, as the call
    would. ``operator`` is the function (``foveal.ops.aggregated_attention``) or its name. Raises
    ValueError for an unknown one, and whatever the operator itself raises for bad arguments. The result prints as a
    readable table.
    """
    name = operator if isinstance(operator, str) else getattr(operator, "__name__", repr(operator))
    return find_operator(name).explain(*args, **kwargs)
