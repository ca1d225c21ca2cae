"""A run that is stopped at any point and resumed gives the result of an uninterrupted run."""

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
from foveal.training.processes import Processes

TIMING = ("time", "seconds", "images_per_second", "data_wait_seconds", "memory_bytes")


class Leave(Listener):
    """Raises KeyboardInterrupt after update ``last`` is saved, which stops the run but not the process."""

    def __init__(self, last):
        self.last = last

    def saved(self, update, path):
        if update == self.last:
            raise KeyboardInterrupt


def lines(out, name):
    """Entries of a log without timings and memory."""
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
    """The settings and folder of an uninterrupted run of 24 updates, six per epoch."""
    config = change(config, log_every=4, save_steps=1)
    fit(points(dropout=0.5), config, out / "straight")
    return config, out / "straight"


@pytest.mark.parametrize("update", [1, 3, 4, 5, 6, 7, 11, 12, 23])
def test_resuming_from_any_update_is_bitwise_identical(points, straight, change, out, update):
    config, whole = straight
    with pytest.raises(KeyboardInterrupt):
        fit(points(dropout=0.5), config, out / "cut", listener=Leave(update))
    assert read_checkpoint(out / "cut" / "last.pt")["step"] == update
    fit(points(dropout=0.5), change(config, save_steps=None), out / "cut", resume=out / "cut" / "last.pt")
    assert_equal_runs(whole, out / "cut")


def test_repeated_resuming_is_bitwise_identical(points, straight, out):
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
def test_a_signal_finishes_the_update_saves_and_returns(points, straight, out, notice, passes):
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


def test_a_signal_during_evaluation_stops_it(points, straight, out):
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


def test_ctrl_c_saves_and_is_raised_even_if_the_exception_was_swallowed(points, straight, out):
    """Python prints and drops exceptions raised in before-fork handlers; the signal must still be handled."""
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


def test_a_signal_in_the_first_epoch_leaves_a_run_without_a_best_checkpoint(points, config, out):
    task = points()
    task.before_loss = lambda count: os.kill(os.getpid(), signal.SIGTERM) if count == 2 else None
    outcome = fit(task, config, out)
    assert (outcome.best, outcome.best_epoch, outcome.epochs, outcome.updates) == (None, 0, 0, 3)
    assert fit(points(), config, out, resume=outcome.last_path).epochs == 4


def test_a_second_signal_calls_the_previous_handler(points, config, out):
    """A second signal asks for an immediate stop."""
    heard, task = [], points()
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    task.before_loss = lambda count: [os.kill(os.getpid(), signal.SIGTERM) for _ in range(2)] if count == 2 else None
    try:
        assert fit(task, config, out).interrupted
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_another_number_of_images_is_rejected_on_resume(points, config, out):
    fit(points(), config, out)
    task = points()
    task.train_size = 49
    with pytest.raises(FovealError, match=r"started with 48 training images, not 49"):
        fit(task, config, out, resume=out / "last.pt")


def test_an_epoch_of_shards_resumes_only_with_the_same_batching(points, config, change, out):
    """Within an epoch the remaining samples depend on how shards were split; between epochs they do not."""

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
    """Call ``how`` on the model before forward pass ``when`` (from 0)."""
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
        (spoil_weight, r"is 3 \(Linear\), whose weights became non-finite in an earlier update;"),
    ],
)
def test_a_nonfinite_loss_stops_before_its_update_and_names_step_rate_and_layer(
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


def test_a_nonfinite_loss_does_not_change_the_weights(points, config, out):
    task, seen = points(), []

    def note(model):
        seen.extend(parameter.clone() for parameter in model.parameters())
        overflow_in_tanh(model)

    with pytest.raises(FovealError, match="The loss became nan"):
        fit(spoil(task, 10, note), config, out)
    assert all(torch.equal(a, b) for a, b in zip(seen, task.model.parameters(), strict=True))


@pytest.mark.parametrize("clip", [1.0, None])
@pytest.mark.parametrize(("update", "saved"), [(6, 0), (6, 5), (9, 6), (9, 8)])
def test_a_nonfinite_gradient_does_not_affect_saved_weights(points, config, change, out, clip, update, saved):
    """The loss is finite; in the last update of an epoch or in the middle, with or without saves within the epoch."""
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


def test_nonfinite_weights_are_not_saved(points, config, out):
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


def test_concurrent_runs_in_one_folder_are_rejected(points, config, out):
    """The second run is rejected while the first is alive, even with resume; afterwards the folder is free again."""
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


def test_a_nonfinite_loss_with_finite_layers_is_reported_as_such(points, config, out):
    task = points()
    task.before_loss = lambda count: setattr(task, "spoilt", count >= 3)
    loss = task.loss

    def spoilt_loss(model, batch):
        value, stats = loss(model, batch)
        return (value / 0.0 if task.spoilt else value), stats

    task.loss = spoilt_loss
    with pytest.raises(FovealError, match=r"loss became inf at step 4 .*every layer's values are finite"):
        fit(task, config, out)


@pytest.mark.parametrize("width", [8, 100_000])  # a file smaller and one larger than Python's buffer
def test_a_full_disk_raises_a_one_line_error_and_keeps_the_previous_save(points, config, change, out, width):
    """The third save is redirected to /dev/full."""
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


def test_a_log_on_a_full_disk_raises_a_one_line_error(points, config, out):
    class Fill(Listener):
        def begin(self, plan):  # reading /dev/full never ends, so link it only after the log is rewound
            (out / "steps.jsonl").symlink_to("/dev/full")

    with pytest.raises(FovealError, match=r"steps.jsonl could not be written \(No space left on device\): make room"):
        fit(points(), config, out, listener=Fill())


def test_on_a_gpu_a_nonfinite_gradient_between_two_looks_stops_at_the_next_loss(
    points, config, change, out, monkeypatch
):
    """On the CPU, which is made to look like a device whose operators are queued."""
    task, init = points(), Processes.__init__

    def asynchronous(self, accelerator):
        init(self, accelerator)
        self.is_asynchronous = True

    def spoil_gradient(count):
        if count == 7:
            task.model[0].weight.register_hook(lambda grad: grad * math.inf)

    monkeypatch.setattr(Processes, "__init__", asynchronous)
    task.before_loss = spoil_gradient
    with pytest.raises(FovealError, match=r"loss became nan at step 9 .* became non-finite in an earlier update"):
        fit(task, change(config, log_every=6), out)
    state = read_checkpoint(out / "last.pt")
    assert state["step"] == 6
    assert all(value.isfinite().all() for value in state["model"].values())
