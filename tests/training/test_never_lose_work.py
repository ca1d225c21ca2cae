"""A run that was stopped anywhere, in whatever way, ends as if it had not been."""

import contextlib
import json
import math
import os
import signal

import pytest
import torch

from foveal.errors import FovealError
from foveal.training import fit
from foveal.training.checkpoint import read_checkpoint
from foveal.training.listener import Listener

TIMING = ("time", "seconds", "images_per_second", "data_wait_seconds", "memory_bytes")


class Leave(Listener):
    """Presses Ctrl-C as soon as update ``last`` is saved: a kill that leaves the rest of the process alive."""

    def __init__(self, last):
        self.last = last

    def saved(self, update, path):
        if update == self.last:
            raise KeyboardInterrupt


def lines(out, name):
    """A log without what a clock says."""
    found = [json.loads(line) for line in (out / name).read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMING} for line in found]


def assert_equal_runs(one, other):
    states = [read_checkpoint(out / "last.pt") for out in (one, other)]
    assert states[0]["step"] == states[1]["step"]
    assert states[0]["best"] == states[1]["best"]
    for part in ("model", "ema"):
        for name, value in states[0][part].items():
            assert torch.equal(value, states[1][part][name]), f"{part}.{name}"
    for entry, value in states[0]["optimizer"]["state"].items():
        assert torch.equal(value["exp_avg_sq"], states[1]["optimizer"]["state"][entry]["exp_avg_sq"])
    for name in ("metrics.jsonl", "steps.jsonl"):
        assert lines(one, name) == lines(other, name), name


@pytest.fixture
def straight(points, config, change, out):
    """The settings of a run of 24 updates, six an epoch, and its folder."""
    config = change(config, log_every=4, save_steps=1)
    fit(points(dropout=0.5), config, out / "straight")
    return config, out / "straight"


@pytest.mark.parametrize("update", [1, 3, 4, 5, 6, 7, 11, 12, 23])
def test_resuming_from_any_update_is_bitwise(points, straight, change, out, update):
    config, whole = straight
    with pytest.raises(KeyboardInterrupt):
        fit(points(dropout=0.5), config, out / "cut", listener=Leave(update))
    assert read_checkpoint(out / "cut" / "last.pt")["step"] == update
    fit(points(dropout=0.5), change(config, save_steps=None), out / "cut", resume=out / "cut" / "last.pt")
    assert_equal_runs(whole, out / "cut")


def test_being_stopped_again_and_again_is_bitwise_too(points, straight, out):
    config, whole = straight
    last, stopped = out / "cut" / "last.pt", []
    for update in (2, 5, 6, 13, 22):
        resume = last if last.exists() else None
        with pytest.raises(KeyboardInterrupt):
            fit(points(dropout=0.5), config, out / "cut", listener=Leave(update), resume=resume)
        stopped.append(read_checkpoint(last)["step"])
    fit(points(dropout=0.5), config, out / "cut", resume=last)
    assert stopped == [2, 5, 6, 13, 22]
    assert_equal_runs(whole, out / "cut")


@pytest.mark.parametrize("notice", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("passes", [8, 24])
def test_a_notice_ends_the_update_saves_and_returns(points, straight, out, notice, passes):
    config, whole = straight
    before = signal.getsignal(notice)
    task = points(dropout=0.5)
    task.before_loss = lambda count: os.kill(os.getpid(), notice) if count == passes - 1 else None
    outcome = fit(task, config, out / "cut")
    assert outcome.interrupted
    assert (outcome.updates, outcome.epochs) == (passes, (passes - 1) // 6)
    assert read_checkpoint(out / "cut" / "last.pt")["step"] == passes
    assert signal.getsignal(notice) == before
    outcome = fit(points(dropout=0.5), config, out / "cut", resume=out / "cut" / "last.pt")
    assert not outcome.interrupted
    assert_equal_runs(whole, out / "cut")


def test_a_notice_during_an_evaluation_does_not_wait_for_its_end(points, straight, out):
    config, whole = straight
    told = []

    class During(Listener):
        def evaluating(self, epoch, done, total):
            told.append((epoch, done))
            if (epoch, done) == (2, 1):
                os.kill(os.getpid(), signal.SIGTERM)

    outcome = fit(points(dropout=0.5), config, out / "cut", listener=During())
    assert told[-1] == (2, 1)
    assert outcome.interrupted
    assert (outcome.epochs, outcome.updates) == (1, 12)
    fit(points(dropout=0.5), config, out / "cut", resume=out / "cut" / "last.pt")
    assert_equal_runs(whole, out / "cut")


def test_ctrl_c_saves_and_goes_through_also_where_python_forgets_it(points, straight, out):
    """An exception in what runs before a fork is printed and dropped; the notice is not."""
    config, whole = straight
    told, task = [], points(dropout=0.5)

    def forget(count):
        if count == 8 and not told:
            told.append(count)
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)

    task.before_loss = forget
    with pytest.raises(KeyboardInterrupt):
        fit(task, config, out / "cut")
    assert read_checkpoint(out / "cut" / "last.pt")["step"] == 9
    fit(points(dropout=0.5), config, out / "cut", resume=out / "cut" / "last.pt")
    assert_equal_runs(whole, out / "cut")


def test_a_notice_before_the_first_epoch_has_ended_leaves_a_run_without_a_best(points, config, out):
    task = points()
    task.before_loss = lambda count: os.kill(os.getpid(), signal.SIGTERM) if count == 2 else None
    outcome = fit(task, config, out)
    assert (outcome.best, outcome.best_epoch, outcome.epochs, outcome.updates) == (None, 0, 0, 3)
    assert fit(points(), config, out, resume=outcome.last_path).epochs == 4


def test_a_second_notice_finds_the_handler_of_before(points, config, out):
    """Who sends two wants no politeness."""
    heard, task = [], points()
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    task.before_loss = lambda count: [os.kill(os.getpid(), signal.SIGTERM) for _ in range(2)] if count == 2 else None
    try:
        assert fit(task, config, out).interrupted
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_other_images_are_refused_on_resume(points, config, out):
    fit(points(), config, out)
    task = points()
    task.train_size = 49
    with pytest.raises(FovealError, match=r"started with 48 training images, not 49"):
        fit(task, config, out, resume=out / "last.pt")


def test_an_epoch_of_shards_goes_on_only_as_it_was_cut(points, config, change, out):
    """Which samples are still to come depends on who read which stretch; between epochs nothing is half read."""

    def sharded():
        task = points()
        make = task.train_loader
        task.train_loader = lambda *words: mark(make(*words))
        return task

    def mark(loader):
        loader.cut_by_share = True
        return loader

    for update, refused in ((8, True), (12, False)):
        folder = out / str(update)
        with pytest.raises(KeyboardInterrupt):
            fit(sharded(), change(config, save_steps=2), folder, listener=Leave(update))
        again = dict(config=change(config, device_batch_size=4), out=folder, resume=folder / "last.pt")
        if refused:
            with pytest.raises(FovealError, match=r"half-read epoch of shards .*--device-batch-size 8 on 1 process\.$"):
                fit(sharded(), **again)
        else:
            assert fit(sharded(), **again).updates == 24


def spoil(task, when, how):
    """Before pass ``when`` (from 0) something happens to the task's model."""
    task.before_loss = lambda count: how(task.model) if count == when else None
    return task


def overflow_in_tanh(model):
    model[1].forward = lambda x: torch.tanh(x) / 0.0


def spoil_weight(model):
    torch.nn.init.constant_(model[3].weight, math.nan)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (overflow_in_tanh, r"is 1 \(Tanh\);"),
        (spoil_weight, r"is 3 \(Linear\), whose weights an earlier update spoilt;"),
    ],
)
def test_a_loss_that_is_no_number_stops_before_its_update_and_names_step_rate_and_layer(
    points, config, change, out, how, words
):
    task = spoil(points(), 8, how)  # the third update of the second epoch
    with pytest.raises(FovealError, match=words) as caught:
        fit(task, change(config, log_every=4), out)
    assert "at step 9 (epoch 2, learning rate 0.00" in str(caught.value)
    assert "\n" not in str(caught.value)
    state = read_checkpoint(out / "last.pt")
    assert (state["epoch"], state["step"]) == (1, 6)
    assert all(value.isfinite().all() for value in state["model"].values())


def test_weights_are_not_touched_by_a_loss_that_is_no_number(points, config, out):
    task, seen = points(), []

    def note(model):
        seen.extend(parameter.clone() for parameter in model.parameters())
        overflow_in_tanh(model)

    with pytest.raises(FovealError, match="The loss became nan"):
        fit(spoil(task, 10, note), config, out)
    assert all(torch.equal(a, b) for a, b in zip(seen, task.model.parameters(), strict=True))


@pytest.mark.parametrize("clip", [1.0, None])
@pytest.mark.parametrize(("update", "saved"), [(6, 0), (6, 5), (9, 6), (9, 8)])
def test_a_gradient_that_is_no_number_spoils_nothing_that_is_saved(points, config, change, out, clip, update, saved):
    """Behind a finite loss, in the last update of an epoch or in the midst of it, with saves within it or without."""
    task = points()

    def spoil_gradient(count):
        if count == update - 1:
            task.model[0].weight.register_hook(lambda grad: grad * math.inf)

    task.before_loss = spoil_gradient
    save_steps = 1 if saved % 6 else None
    with pytest.raises(
        FovealError, match=rf"gradients became (nan|inf) at step {update} .*are not finite is 0\.weight;"
    ):
        fit(task, change(config, clip_norm=clip, save_steps=save_steps), out)
    assert (out / "last.pt").exists() == (saved > 0)
    if saved:
        state = read_checkpoint(out / "last.pt")
        assert state["step"] == saved
        assert all(value.isfinite().all() for value in state["model"].values())


def test_weights_that_are_no_numbers_are_not_saved(points, config, out):
    """An update may overflow from finite gradients."""
    task = points()
    step = torch.optim.AdamW.step

    def overflow(self, *words, **options):
        step(self, *words, **options)
        if len(task.losses) == 6:
            torch.nn.init.constant_(task.model[3].bias, math.inf)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", overflow)
        with pytest.raises(FovealError, match=r"After step 6 3\.bias is not finite and nothing was saved"):
            fit(task, config, out)
    assert not list(out.glob("*.pt"))


def test_two_runs_never_share_a_folder(points, config, out):
    """The second is refused while the first is alive, also to resume; then the folder is free again."""
    said = []

    class Second(Listener):
        def saved(self, update, path):
            for resume in (None, path):
                with pytest.raises(FovealError) as caught:
                    fit(points(), config, out, resume=resume)
                said.append(str(caught.value))

    fit(points(), config, out, listener=Second())
    assert said[1] == f"Another process is training into {out}: wait for its end, or choose another --out."
    assert not (out / ".lock").exists()
    fit(points(), config, out, resume=out / "last.pt")


def test_a_loss_that_alone_is_no_number_is_said_to_be(points, config, out):
    task = points()
    task.before_loss = lambda count: setattr(task, "spoilt", count >= 3)
    loss = task.loss

    def spoilt_loss(model, batch):
        value, stats = loss(model, batch)
        return (value / 0.0 if task.spoilt else value), stats

    task.loss = spoilt_loss
    with pytest.raises(FovealError, match=r"loss became inf at step 4 .*every layer's values are finite"):
        fit(task, config, out)


@pytest.mark.parametrize("width", [8, 100_000])  # a file that fits Python's buffer, and one that does not
def test_a_full_disk_is_one_sentence_and_the_save_before_stays(points, config, change, out, width):
    """The third save goes to a device that is really full."""
    config = change(config, save_steps=1)

    class Fill(Listener):
        def saved(self, update, path):
            if update == 2:
                (out / ".last.pt.part").symlink_to("/dev/full")

    with pytest.raises(FovealError, match=r"last.pt could not be written \(No space left on device\): make room"):
        fit(points(width=width), config, out, listener=Fill())
    assert read_checkpoint(out / "last.pt")["step"] == 2
    assert not (out / ".last.pt.part").is_symlink()
    assert fit(points(width=width), config, out, resume=out / "last.pt").updates == 24


def test_a_log_that_the_disk_refuses_is_one_sentence(points, config, out):
    class Fill(Listener):
        def begin(self, plan):  # reading /dev/full never ends, so it must not be there when the log is rewound
            (out / "steps.jsonl").symlink_to("/dev/full")

    with pytest.raises(FovealError, match=r"steps.jsonl could not be written \(No space left on device\): make room"):
        fit(points(), config, out, listener=Fill())
