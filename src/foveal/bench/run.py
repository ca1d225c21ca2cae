"""Running a benchmark: jobs, and the interleaved measurement of all subjects of one setting."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from foveal.bench import operators, subjects
from foveal.bench.measure import (
    WARMUP,
    Call,
    Spread,
    Stopwatch,
    interleave,
    peak_on_cpu,
    peak_on_gpu,
    ratios,
    stopwatch_for,
)
from foveal.bench.operators import OperatorSubject, operator_subjects, places
from foveal.bench.peers import peers_of
from foveal.bench.results import LeftOut, Outcome, Result
from foveal.bench.settings import INT8, Setting
from foveal.bench.subjects import ModelSubject, Subject, baseline_of, is_ours, model_subjects, scaling_subjects
from foveal.errors import FovealError

PARTS = ("models", "ops", "scaling")
PEERS = ("tiny", "accuracy")


@dataclass(frozen=True)
class MeasurementSettings:
    """How every setting is measured.

    Attributes:
        rounds: counted rounds, at least 2.
        memory: whether peak memory is measured.
        stopwatch: measures the time; None for the device's own.
        on_step: called after each step, ``steps(subjects)`` times per setting.
    """

    rounds: int
    memory: bool = True
    stopwatch: Stopwatch | None = None
    on_step: Callable[[], None] = lambda: None

    def steps(self, subjects: int) -> int:
        """Return the number of steps: preparation, rounds and memory of each subject."""
        return subjects * (1 + WARMUP + self.rounds + self.memory)


@dataclass(frozen=True)
class Job:
    """Subjects that are timed in one interleaved run.

    Attributes:
        part: one of ``PARTS``.
        setting: the setting that they share.
        subjects: what is measured.
        baseline: returns the subject that a subject is compared with.
        least: minimum seconds per measurement.
        left_out: subjects that are known not to run.
    """

    part: str
    setting: Setting
    subjects: Sequence[Subject]
    baseline: Callable[[Subject], Subject]
    least: float = 0.0
    left_out: Sequence[LeftOut] = ()

    def run(self, measurement: MeasurementSettings) -> Outcome:
        """Measure all subjects; reports its steps to ``measurement.on_step``."""
        outcome = run_setting(self.subjects, self.setting, measurement, self.baseline, self.least)
        return Outcome(outcome.results, [*self.left_out, *outcome.left_out])


def jobs(
    part: str, setting: Setting, models: tuple[str, ...], peers: tuple[str, ...], forms: tuple[str, ...] | None
) -> list[Job]:
    """Return the jobs of one part in one setting.

    Args:
        part: one of ``PARTS``.
        setting: the setting that all subjects share.
        models: names in timm's registry.
        peers: networks of timm to measure as well: "tiny" (``subjects.PEERS``), "accuracy" (``peers_of`` every model,
            and ConvNeXt-T as the baseline), both or none; scaling always includes ConvNeXt-T.
        forms: some of ``subjects.FORMS``, or None for ``default_forms``; int8 has a form of its own.
    """
    if setting.dtype == INT8 and (part == "ops" or setting.training):
        return []  # there is none
    if part == "ops":
        return [_operator_job(place, setting) for place in places()]
    chosen = default_forms(part, setting) if forms is None or setting.dtype == INT8 else forms
    choose = scaling_subjects if part == "scaling" else model_subjects
    return [Job(part, setting, choose((*models, *_peers(models, peers)), chosen), baseline_of)]


def _peers(models: tuple[str, ...], peers: tuple[str, ...]) -> tuple[str, ...]:
    tiny = subjects.PEERS if "tiny" in peers else ()
    if "accuracy" not in peers:
        return tiny
    return (*tiny, *(peer for model in models for peer in peers_of(model)), subjects.BASELINE)


def default_forms(part: str, setting: Setting) -> tuple[str, ...]:
    """Return the forms that are measured by default: only eager for training, one form for scaling and for int8."""
    if setting.dtype == INT8:
        return (subjects.QUANTIZED,)
    if setting.training:
        return ("eager",)
    return ("eager", "optimised") if part == "models" else ("optimised",)


def _operator_job(place: operators.Place, setting: Setting) -> Job:
    able, reasons = operator_subjects(place, setting)
    left_out = [LeftOut(place.operator, backend, setting, reason) for backend, reason in reasons.items()]
    plain = OperatorSubject(place, operators.BASELINE)
    return Job("ops", setting, able, lambda subject: plain, operators.LEAST_SECONDS, left_out)


def run_setting(
    subjects: Sequence[Subject],
    setting: Setting,
    measurement: MeasurementSettings,
    baseline: Callable[[Subject], Subject | None] = lambda subject: None,
    least: float = 0.0,
) -> Outcome:
    """Measure all subjects in one interleaved run: time round by round, then memory.

    Args:
        subjects: what to measure, each once.
        setting: the setting that they share.
        measurement: how to measure.
        baseline: returns the subject that a subject is compared with.
        least: minimum seconds per measurement, see ``interleave``.

    Raises:
        FovealError: the device cannot hold all subjects together.
    """
    ready: dict[Subject, _Ready] = {}
    left_out = []
    for subject in subjects:
        prepared = _prepare(subject, setting, measurement)
        if isinstance(prepared, _Ready):
            ready[subject] = prepared
            measurement.on_step()
        else:
            left_out.append(LeftOut(subject.name, subject.form, setting, prepared))
            for _ in range(measurement.steps(1)):
                measurement.on_step()
    seconds = _time(ready, setting, measurement, least)
    unloaded = {subject: replace(one, call=None) for subject, one in ready.items()}
    ready.clear()
    torch.compiler.reset()
    _free(setting)
    results = []
    for subject, one in unloaded.items():
        if measurement.memory:
            one = one if _on_gpu(setting) else replace(one, peak=peak_on_cpu(subject, setting))
            measurement.on_step()
        results.append(_result(subject, setting, baseline(subject), seconds, one))
    return Outcome(results, left_out)


@dataclass(frozen=True)
class _Ready:
    """A subject after its first call. On a GPU, with its peak memory, which is counted from before that call."""

    call: Call | None
    held: int
    moved: int | None
    peak: int | None


def _prepare(subject: Subject, setting: Setting, measurement: MeasurementSettings) -> _Ready | str:
    """Return the prepared subject, or the reason why it is left out."""
    try:
        prepared = subject.prepare(setting)
        peak = peak_on_gpu(prepared, setting.device) if measurement.memory and _on_gpu(setting) else None
        prepared.call()
        return _Ready(prepared.call, prepared.held, prepared.moved, peak)
    except (AssertionError, RuntimeError, ValueError, FovealError) as error:
        reason = _reason(subject, error)
        if reason is None:
            raise
    _free(setting)
    return reason


def _reason(subject: Subject, error: Exception) -> str | None:
    """Return why a subject is left out, or None for a bug in foveal that must not be hidden."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, FovealError):
        return first
    if isinstance(error, torch.OutOfMemoryError):
        return "it needs more memory than the device has"
    if not isinstance(subject, ModelSubject):
        return None
    if subject.form == "compiled":
        return f"torch.compile fails on it: {first}"
    return None if is_ours(subject.model) else f"it does not run here: {first}"


def _time(
    ready: dict[Subject, _Ready], setting: Setting, measurement: MeasurementSettings, least: float
) -> dict[Subject, list[float]]:
    calls = {subject: one.call for subject, one in ready.items() if one.call is not None}
    stopwatch = measurement.stopwatch or stopwatch_for(setting.device)
    try:
        return interleave(calls, measurement.rounds, stopwatch, least=least, on_call=measurement.on_step)
    except torch.OutOfMemoryError:
        advice = "take fewer models or forms at a time, or smaller batches"
        raise FovealError(f"All of {setting} together need more memory than the device has: {advice}.") from None


def _result(
    subject: Subject, setting: Setting, other: Subject | None, seconds: dict[Subject, list[float]], one: _Ready
) -> Result:
    mine = seconds[subject]
    ratio = Spread.of(ratios(seconds[other], mine)) if other in seconds else None
    baseline = other if other in seconds else None
    spread, each = Spread.of(mine), tuple(mine)
    return Result(subject, setting, len(mine), spread, baseline, ratio, one.held, one.peak, one.moved, each)


def _on_gpu(setting: Setting) -> bool:
    return torch.device(setting.device).type == "cuda"


def _free(setting: Setting) -> None:
    gc.collect()
    if _on_gpu(setting):
        torch.cuda.empty_cache()
