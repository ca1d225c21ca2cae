"""One setting measured: subjects are built, timed in turn, compared round by round, and their memory is taken."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

from foveal.bench.measure import WARMUP, Call, Spread, Stopwatch, interleave, ratios, stopwatch_for
from foveal.bench.memory import peak_on_cpu, peak_on_gpu
from foveal.bench.settings import Setting
from foveal.bench.subjects import ModelSubject, Subject, is_ours
from foveal.errors import FovealError


@dataclass(frozen=True)
class Plan:
    """How everything is measured.

    Attributes:
        rounds: counted rounds, at least 2.
        memory: whether peak memory is measured.
        stopwatch: what takes the time; None for the device's own.
        on_step: told after each step, `steps(subjects)` times a setting.
    """

    rounds: int
    memory: bool = True
    stopwatch: Stopwatch | None = None
    on_step: Callable[[], None] = lambda: None

    def steps(self, subjects: int) -> int:
        """Preparing, timing, memory."""
        return subjects * (1 + WARMUP + self.rounds + self.memory)


@dataclass(frozen=True)
class Result:
    """What was measured of one subject in one setting.

    Attributes:
        seconds: a call.
        baseline: the subject that it is compared with, or None.
        ratio: how many times faster than the baseline, over the rounds.
        held: bytes of network and inputs.
        peak: bytes at the most beyond these, or None where that was not measured.
        moved: bytes that a call must move, or None.
    """

    subject: Subject
    setting: Setting
    rounds: int
    seconds: Spread
    baseline: Subject | None
    ratio: Spread | None
    held: int
    peak: int | None
    moved: int | None


@dataclass(frozen=True)
class LeftOut:
    """A subject that was not measured, and the reason."""

    name: str
    form: str
    setting: Setting
    reason: str


@dataclass(frozen=True)
class Outcome:
    """Of one setting or several."""

    results: list[Result] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.results + other.results, self.left_out + other.left_out)


def run_setting(
    subjects: Sequence[Subject],
    setting: Setting,
    plan: Plan,
    baseline: Callable[[Subject], Subject | None] = lambda subject: None,
    least: float = 0.0,
) -> Outcome:
    """Measure all subjects in one interleaved run.

    Args:
        subjects: what to measure, each once.
        setting: what they share.
        plan: how.
        baseline: which of them a subject is compared with.
        least: seconds that a measurement lasts at least, as `interleave` takes it.

    Raises FovealError where the device does not hold all of them together.
    """
    ready: dict[Subject, _Ready] = {}
    left_out = []
    for subject in subjects:
        prepared = _prepare(subject, setting, plan)
        if isinstance(prepared, _Ready):
            ready[subject] = prepared
            plan.on_step()
        else:
            left_out.append(LeftOut(subject.name, subject.form, setting, prepared))
            _step(plan.steps(1), plan)
    seconds = _time(ready, setting, plan, least)
    unloaded = {subject: replace(one, call=None) for subject, one in ready.items()}
    ready.clear()
    torch.compiler.reset()
    _free(setting)
    results = []
    for subject, one in unloaded.items():
        if plan.memory:
            one = one if _on_gpu(setting) else replace(one, peak=peak_on_cpu(subject, setting))
            plan.on_step()
        results.append(_result(subject, setting, baseline(subject), seconds, one))
    return Outcome(results, left_out)


@dataclass(frozen=True)
class _Ready:
    """A subject after its first call; on a GPU with its peak memory, which counts from before that call."""

    call: Call | None
    held: int
    moved: int | None
    peak: int | None


def _prepare(subject: Subject, setting: Setting, plan: Plan) -> _Ready | str:
    """The subject, or the reason why it is left out."""
    try:
        prepared = subject.prepare(setting)
        peak = peak_on_gpu(prepared, setting.device) if plan.memory and _on_gpu(setting) else None
        prepared.call()
        return _Ready(prepared.call, prepared.held, prepared.moved, peak)
    except (AssertionError, RuntimeError, ValueError, FovealError) as error:
        reason = _reason(subject, error)
        if reason is None:
            raise
    _free(setting)
    return reason


def _reason(subject: Subject, error: Exception) -> str | None:
    """Why a subject is left out, or None where its error is a bug to be seen: ours, outside a compiler."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, FovealError):
        return first
    if isinstance(error, torch.OutOfMemoryError):
        return "it needs more memory than the device has"
    if not isinstance(subject, ModelSubject):
        return None
    if subject.form == "compiled":
        return f"torch.compile does not get through it: {first}"
    return None if is_ours(subject.model) else f"it does not run here: {first}"


def _time(ready: dict[Subject, _Ready], setting: Setting, plan: Plan, least: float) -> dict[Subject, list[float]]:
    calls = {subject: one.call for subject, one in ready.items() if one.call is not None}
    stopwatch = plan.stopwatch or stopwatch_for(setting.device)
    try:
        return interleave(calls, plan.rounds, stopwatch, least=least, on_call=plan.on_step)
    except torch.OutOfMemoryError:
        advice = "take fewer models or forms at a time, or smaller batches"
        raise FovealError(f"All of {setting} together need more memory than the device has: {advice}.") from None


def _result(
    subject: Subject, setting: Setting, other: Subject | None, seconds: dict[Subject, list[float]], one: _Ready
) -> Result:
    mine = seconds[subject]
    ratio = Spread.of(ratios(seconds[other], mine)) if other in seconds else None
    baseline = other if other in seconds else None
    return Result(subject, setting, len(mine), Spread.of(mine), baseline, ratio, one.held, one.peak, one.moved)


def _step(steps: int, plan: Plan) -> None:
    for _ in range(steps):
        plan.on_step()


def _on_gpu(setting: Setting) -> bool:
    return torch.device(setting.device).type == "cuda"


def _free(setting: Setting) -> None:
    gc.collect()
    if _on_gpu(setting):
        torch.cuda.empty_cache()
