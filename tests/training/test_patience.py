"""A run stops after the given number of epochs without an improvement, also if it was resumed in between."""

import pytest
import torch

from foveal.training import fit
from foveal.training.checkpoint import read_checkpoint
from foveal.training.listener import Listener


class Stop(Listener):
    def __init__(self, epoch):
        self.last = epoch

    def epoch(self, record, is_best):
        if record["epoch"] == self.last:
            raise KeyboardInterrupt


@pytest.fixture
def scored(points):
    """A task whose evaluation after epoch ``first + i`` gives ``values[i]``."""

    def make(values, first=1, higher_is_better=True):
        task = points()
        left = iter(values[first - 1 :])
        task.higher_is_better = higher_is_better
        task.evaluate = lambda model, processes, on_batch: {"top1": next(left)}
        return task

    return make


@pytest.mark.parametrize(
    ("patience", "values", "best", "last"),
    [
        (2, [1, 2, 3, 3, 2, 9], 3, 5),  # the same again is no improvement
        (1, [1, 2, 1, 9, 9, 9], 2, 3),
        (3, [5, 1, 1, 6, 1, 1, 1, 9], 4, 7),  # improved at the last chance
        (2, [9, 1, 1, 1, 1, 1], 1, 3),
    ],
)
def test_the_epoch_of_the_stop_is_exact(scored, config, change, out, patience, values, best, last):
    outcome = fit(scored(values), change(config, epochs=len(values), patience=patience), out)
    assert (outcome.best_epoch, outcome.epochs, outcome.updates) == (best, last, 6 * last)
    assert outcome.stopped_early
    assert not outcome.interrupted
    assert outcome.planned_epochs == len(values)


def test_a_loss_improves_downwards(scored, config, change, out):
    values = [3, 1, 2, 1, 2, 0]
    outcome = fit(scored(values, higher_is_better=False), change(config, epochs=6, patience=3), out)
    assert (outcome.best_epoch, outcome.epochs) == (2, 5)


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_the_epochs_without_improvement_are_counted_across_a_resume(scored, config, change, out, cut):
    values, config = [1, 3, 2, 3, 2, 9, 9, 9], change(config, epochs=8, patience=3)
    with pytest.raises(KeyboardInterrupt):
        fit(scored(values), config, out, listener=Stop(cut))
    outcome = fit(scored(values, first=cut + 1), config, out, resume=out / "last.pt")
    assert (outcome.best_epoch, outcome.epochs, outcome.stopped_early) == (2, 5, True)


def test_a_run_that_stopped_early_stays_so_until_it_may_wait_longer(scored, config, change, out):
    """With more patience it goes on to what that would have come to from the start."""
    values, impatient = [1, 3, 2, 2, 2, 4, 1, 1, 1, 1], change(config, epochs=10, patience=2)
    fit(scored(values), impatient, out / "run")
    again = fit(scored(values), impatient, out / "run", resume=out / "run" / "last.pt")
    assert (again.epochs, again.epochs_before, again.stopped_early) == (4, 4, True)
    patient = change(impatient, patience=4)
    outcome = fit(scored(values, first=5), patient, out / "run", resume=out / "run" / "last.pt")
    assert (outcome.best_epoch, outcome.epochs, outcome.stopped_early) == (6, 10, False)
    fit(scored(values), patient, out / "whole")
    one, other = (read_checkpoint(out / name / "last.pt")["model"] for name in ("run", "whole"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_epochs_of_the_cooldown_count_too(scored, config, change, out):
    values = [1, 2, 1, 1, 1, 9]
    outcome = fit(scored(values), change(config, epochs=3, cooldown_epochs=3, patience=3), out)
    assert (outcome.epochs, outcome.planned_epochs, outcome.stopped_early) == (5, 6, True)


def test_a_run_that_waits_until_its_last_epoch_has_not_stopped_early(scored, config, change, out):
    outcome = fit(scored([2, 1, 1, 1]), change(config, patience=3), out)
    assert (outcome.epochs, outcome.stopped_early) == (4, False)
