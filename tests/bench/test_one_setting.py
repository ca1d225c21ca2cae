"""Measuring one setting, with subjects of known durations."""

import pytest
import torch

from foveal.bench.measure import Spread
from foveal.bench.results import Outcome
from foveal.bench.run import MeasurementSettings, run_setting
from foveal.bench.settings import Setting
from foveal.bench.subjects import ModelSubject
from foveal.errors import FovealError

SETTING = Setting(batch=1, height=64, width=64)


@pytest.fixture
def measurement(stopwatch):
    return MeasurementSettings(rounds=3, memory=False, stopwatch=stopwatch)


def test_seconds_and_ratios_are_those_of_the_counted_rounds(scripted, measurement):
    base = scripted("base", (9, 9, 1, 2, 4), held=5, moved=7)
    twice = scripted("twice", (9, 9, 0.5, 1, 1))
    outcome = run_setting([base, twice], SETTING, measurement, lambda subject: base)
    first, second = outcome.results
    assert (first.seconds.p50, second.seconds.p50) == (2, 1)
    assert first.ratio == Spread(1, 1, 1)
    assert second.ratio == Spread.of([2, 2, 4])
    assert (first.held, first.moved, first.peak, first.baseline) == (5, 7, None, base)


def test_a_subject_without_its_baseline_has_no_ratio(scripted, measurement):
    (result,) = run_setting([scripted("a", (1,))], SETTING, measurement, lambda subject: scripted("away", (1,))).results
    assert (result.ratio, result.baseline) == (None, None)


@pytest.mark.parametrize(
    ("subject", "error", "reason"),
    [
        ("own", FovealError("it cannot be"), "it cannot be"),
        ("own", torch.OutOfMemoryError("CUDA out of memory. Tried to ..."), "needs more memory than the device has"),
        ("swin_tiny_patch4_window7_224", AssertionError("Input height (30) ...\nmore"), "does not run here: Input hei"),
        ("convnext_tiny/compiled", RuntimeError("no compiler"), "torch.compile fails on it: no compiler"),
        ("transnext_atto/compiled", RuntimeError("no compiler"), "torch.compile fails on it"),
    ],
)
def test_subjects_that_cannot_run_are_left_out_with_a_reason(
    scripted, measurement, monkeypatch, subject, error, reason
):
    def prepare(self, setting):
        raise error

    monkeypatch.setattr(ModelSubject, "prepare", prepare)
    name, _, form = subject.partition("/")
    failing = scripted(name, (1,), fails=error) if name == "own" else ModelSubject(name, form or "eager")
    outcome = run_setting([failing, scripted("runs", (1,))], SETTING, measurement)
    assert [result.subject.name for result in outcome.results] == ["runs"]
    (left,) = outcome.left_out
    assert left.name == name
    assert reason in left.reason
    assert "\n" not in left.reason


def test_an_error_in_foveal_keeps_its_traceback(measurement, monkeypatch):
    def prepare(self, setting):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(ModelSubject, "prepare", prepare)
    with pytest.raises(RuntimeError, match="shapes"):
        run_setting([ModelSubject("transnext_atto")], SETTING, measurement)


def test_as_many_steps_are_reported_as_announced(scripted, stopwatch, monkeypatch):
    monkeypatch.setattr("foveal.bench.run.peak_on_cpu", lambda subject, setting: 3 * 2**20)
    reported = []
    measurement = MeasurementSettings(rounds=2, stopwatch=stopwatch, on_step=lambda: reported.append(1))
    subjects = [scripted("a", (1,)), scripted("b", (1,), fails=FovealError("no")), scripted("c", (2,))]
    outcome = run_setting(subjects, SETTING, measurement)
    assert len(reported) == measurement.steps(3) == 3 * (1 + 2 + 2 + 1)
    assert [result.peak for result in outcome.results] == [3 * 2**20] * 2


def test_subjects_that_only_fit_in_memory_one_at_a_time_raise_a_one_line_error(scripted):
    def stopwatch(call, repeats):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(FovealError, match="together need more memory"):
        run_setting([scripted("a", (1,))], SETTING, MeasurementSettings(2, memory=False, stopwatch=stopwatch))


def test_outcomes_add_up(scripted, measurement):
    one = run_setting([scripted("a", (1,))], SETTING, measurement)
    other = run_setting([scripted("b", (1,), fails=FovealError("no"))], SETTING, measurement)
    both = Outcome() + one + other
    assert ([r.subject.name for r in both.results], [x.name for x in both.left_out]) == (["a"], ["b"])
