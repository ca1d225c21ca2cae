"""A resumed run may end after another number of epochs, and says what that changes."""

import json
import math

import pytest
import torch

from foveal.errors import FovealError
from foveal.training import fit
from foveal.training.checkpoint import read_checkpoint
from foveal.training.listener import Listener

TOP, LOWEST = 1e-2, 1e-4


class Watch(Listener):
    """Keeps the notices of a run, and stops it after an update is saved."""

    def __init__(self, last=None):
        self.last = last

    def begin(self, info):
        self.info = info

    def saved(self, update, path):
        if update == self.last:
            raise KeyboardInterrupt


def cosine(update, updates):
    return LOWEST + (TOP - LOWEST) * (1 + math.cos(math.pi * update / updates)) / 2


@pytest.fixture
def falling(config, change):
    """Four epochs of six updates by half a cosine."""
    return change(config, warmup_epochs=0, schedule="cosine", save_steps=1)


def stopped(points, config, out, update):
    with pytest.raises(KeyboardInterrupt):
        fit(points(), config, out, listener=Watch(update))


def gone_on(points, config, out, **options):
    watch = Watch()
    outcome = fit(points(), config, out, listener=watch, resume=out / "last.pt", **{"other_length": True, **options})
    return outcome, watch.info


def rates(out):
    return [json.loads(line)["lr"] for line in (out / "steps.jsonl").read_text().splitlines()]


def test_a_stopped_run_goes_on_by_the_schedule_of_the_new_length(points, falling, change, out):
    """After 12 of 24 updates the cosine is at a half, and after 12 of 48 at (1 + sqrt(1/2)) / 2."""
    stopped(points, falling, out, 12)
    outcome, info = gone_on(points, change(falling, epochs=8), out)
    assert (outcome.epochs, outcome.updates) == (8, 48)
    assert rates(out) == pytest.approx([*(cosine(n, 24) for n in range(12)), *(cosine(n, 48) for n in range(12, 48))])
    assert info.notices == (
        "The run ends after epoch 8 instead of 4. The learning rate of the next update is 0.00855 instead of 0.00505. "
        "The result does not equal that of 8 epochs from the start.",
    )
    assert info.last_epoch == 8


def test_a_finished_run_goes_on(points, falling, change, out):
    """The rate of its last update was nearly the lowest, and that of update 24 of 48 is half of the highest."""
    fit(points(), falling, out)
    outcome, info = gone_on(points, change(falling, epochs=8), out)
    assert (outcome.epochs_before, outcome.epochs) == (4, 8)
    assert "The learning rate was 0.000142 in the last update and is 0.00505 in the next." in info.notices[0]
    assert read_checkpoint(out / "last.pt")["config"]["epochs"] == 8


def test_the_change_is_reported_once(points, falling, change, out):
    stopped(points, falling, out, 6)
    with pytest.raises(KeyboardInterrupt):
        fit(points(), change(falling, epochs=8), out, listener=Watch(20), resume=out / "last.pt", other_length=True)
    _, info = gone_on(points, change(falling, epochs=8), out)
    assert info.notices == ()


def test_at_a_constant_rate_a_longer_run_equals_one_of_that_length(points, config, change, out):
    flat = change(config, warmup_epochs=0, schedule="constant")
    fit(points(), flat, out / "longer")
    _, info = gone_on(points, change(flat, epochs=6), out / "longer")
    fit(points(), change(flat, epochs=6), out / "whole")
    one, other = (read_checkpoint(out / name / "last.pt")["model"] for name in ("longer", "whole"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert "does not equal" not in info.notices[0]


def test_milestones_and_the_average_follow_the_new_length(points, config, change, out):
    """An average of 0.99 per update spans a fifth of 500 updates: 0.791667 of 24, 0.895833 of 48."""
    steps = change(config, warmup_epochs=0, schedule="multistep", milestones=(3,), ema_decay=0.99)
    fit(points(), change(steps, epochs=4), out)
    _, info = gone_on(points, change(steps, epochs=8, milestones=(6,)), out)
    assert "It is lowered after epoch 6 instead of epoch 3." in info.notices[-1]
    assert "The average of weights decays by 0.895833 per update instead of 0.791667." in info.notices[-1]
    assert read_checkpoint(out / "last.pt")["config"]["ema_decay"] == 0.895833


@pytest.mark.parametrize(
    ("update", "epochs", "said"),
    [
        (12, 1, "The run has finished epoch 2 and cannot end after epoch 1: pass --epochs 2 or more."),
        (13, 2, "The run is in epoch 3 and cannot end after epoch 2: pass --epochs 3 or more."),
    ],
)
def test_a_run_cannot_end_before_the_epochs_done(points, falling, change, out, update, epochs, said):
    class Leave(Watch):
        def epoch(self, record, is_best):  # update 12 is saved before and after the evaluation
            if record["step"] == update:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(points(), falling, out, listener=Leave(None if update == 12 else update))
    before = (out / "last.pt").read_bytes()
    with pytest.raises(FovealError) as error:
        gone_on(points, change(falling, epochs=epochs), out)
    assert str(error.value) == said
    assert (out / "last.pt").read_bytes() == before


def test_a_run_may_end_earlier_than_planned(points, falling, change, out):
    stopped(points, falling, out, 8)
    outcome, info = gone_on(points, change(falling, epochs=3), out)
    assert (outcome.epochs, outcome.updates) == (3, 18)
    assert info.notices[0].startswith("The run ends after epoch 3 instead of 4.")


def test_another_length_that_nobody_asked_for_is_rejected(points, falling, change, out):
    stopped(points, falling, out, 8)
    with pytest.raises(FovealError, match=r"started with epochs = 4, not 8"):
        gone_on(points, change(falling, epochs=8), out, other_length=False)


def test_other_settings_are_rejected_in_a_longer_run_too(points, falling, change, out):
    stopped(points, falling, out, 8)
    with pytest.raises(FovealError, match=r"started with lr = 0.01, not 0.02"):
        gone_on(points, change(falling, epochs=8, lr=0.02), out)
    with pytest.raises(FovealError, match=r"started with warmup_epochs = 0, not 1"):
        gone_on(points, change(falling, warmup_epochs=1), out)
