"""What one `foveal bench` measures, setting by setting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from foveal.bench import operators, subjects
from foveal.bench.operators import OperatorSubject, operator_subjects, places
from foveal.bench.run import LeftOut, Outcome, Plan, run_setting
from foveal.bench.scaling import scaling_subjects
from foveal.bench.settings import Setting
from foveal.bench.subjects import Subject, baseline_of, model_subjects

PARTS = ("models", "ops", "scaling")


@dataclass(frozen=True)
class Job:
    """Subjects that are timed in turn.

    Attributes:
        part: one of PARTS.
        least: seconds that a measurement lasts at least.
        left_out: what has been sorted out already.
    """

    part: str
    setting: Setting
    subjects: Sequence[Subject]
    baseline: Callable[[Subject], Subject]
    least: float = 0.0
    left_out: Sequence[LeftOut] = ()

    def run(self, plan: Plan) -> Outcome:
        """Measure it; tells `plan.on_step` its steps."""
        outcome = run_setting(self.subjects, self.setting, plan, self.baseline, self.least)
        return Outcome(outcome.results, [*self.left_out, *outcome.left_out])


def default_forms(part: str, setting: Setting) -> tuple[str, ...]:
    """What a person wants to see first: nothing is folded for training, and scaling shows one form."""
    if setting.training:
        return ("eager",)
    return ("eager", "optimised") if part == "models" else ("optimised",)


def jobs(part: str, setting: Setting, models: tuple[str, ...], peers: bool, forms: tuple[str, ...] | None) -> list[Job]:
    """The jobs of one part in one setting.

    Args:
        part: one of PARTS.
        setting: what is measured in.
        models: names of timm's registry.
        peers: whether timm's peers stand beside them; in scaling ConvNeXt-T always does.
        forms: of subjects.FORMS, or None for `default_forms`.
    """
    if part == "ops":
        return [_operator_job(place, setting) for place in places()]
    chosen = default_forms(part, setting) if forms is None else forms
    beside = subjects.PEERS if peers else ()
    if part == "scaling":
        return [Job(part, setting, scaling_subjects((*models, *beside), chosen), baseline_of)]
    return [Job(part, setting, model_subjects((*models, *beside), chosen), baseline_of)]


def _operator_job(place: operators.Place, setting: Setting) -> Job:
    able, reasons = operator_subjects(place, setting)
    left_out = [LeftOut(place.operator, backend, setting, reason) for backend, reason in reasons.items()]
    plain = OperatorSubject(place, operators.BASELINE)
    return Job("ops", setting, able, lambda subject: plain, operators.LEAST_SECONDS, left_out)
