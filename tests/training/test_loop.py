"""The training loop: updates, logs and checkpoints, and protection of existing runs."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from foveal.errors import FovealError
from foveal.training import finite, fit, loop, processes
from foveal.training.checkpoint import read_checkpoint
from foveal.training.listener import Listener


class Stop(Listener):
    """Raises KeyboardInterrupt at the end of an epoch, after everything is saved."""

    def __init__(self, epoch):
        self.last = epoch

    def epoch(self, record, is_best):
        if record["epoch"] == self.last:
            raise KeyboardInterrupt


def weights(path):
    return read_checkpoint(path)["model"]


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def records(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    timing = ("time", "seconds", "images_per_second", "data_wait_seconds")
    return [{name: value for name, value in line.items() if name not in timing} for line in lines]


def test_a_run_writes_best_last_and_one_line_per_epoch(points, config, out):
    outcome = fit(points(), config, out)
    files = ["best.pt", "last.pt", "metrics.jsonl", "run.json", "steps.jsonl"]
    assert sorted(path.name for path in out.iterdir()) == files
    assert [line["epoch"] for line in records(out)] == [1, 2, 3, 4]
    assert [line["step"] for line in records(out)] == [6, 12, 18, 24]
    assert {"lr", "train_loss", "train_top1", "val_top1"} <= records(out)[0].keys()
    top1 = [line["val_top1"] for line in records(out)]
    assert outcome.best == max(top1)
    assert outcome.best_epoch == top1.index(max(top1)) + 1
    assert read_checkpoint(out / "best.pt")["epoch"] == outcome.best_epoch
    assert outcome.epochs == read_checkpoint(out / "last.pt")["epoch"] == 4


def test_training_reaches_high_accuracy(points, config, change, out):
    outcome = fit(points(), change(config, epochs=20, lr=0.05), out)
    assert outcome.best > 95


def test_updates_match_plain_pytorch(points, config, change, out):
    """One epoch compared with a manual loop: AdamW with decay on matrices only, clipping, schedule and EMA."""
    config = change(config, epochs=1, warmup_epochs=0, weight_decay=0.1, clip_norm=0.05, ema_decay=0.1)
    task, twin = points(), points()
    model, average = twin.model, {name: value.clone() for name, value in twin.model.state_dict().items()}
    matrices = [p for p in model.parameters() if p.ndim > 1]
    biases = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW([{"params": biases, "weight_decay": 0.0}, {"params": matrices, "weight_decay": 0.1}])
    loader = twin.train_loader(
        type("Batching", (), {"device": 8}), 48, type("Share", (), {"rank": 0, "count": 1}), config
    )
    for update, (inputs, labels) in enumerate(loader.epoch(0)):
        for group in optimizer.param_groups:
            group["lr"] = 1e-4 + (1e-2 - 1e-4) * (1 + math.cos(math.pi * update / 6)) / 2
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        optimizer.step()
        for name, value in model.state_dict().items():
            average[name] = 0.1 * average[name] + 0.9 * value
    fit(task, config, out)
    last, best = read_checkpoint(out / "last.pt"), read_checkpoint(out / "best.pt")
    for name, value in model.state_dict().items():
        torch.testing.assert_close(last["model"][name], value)
        torch.testing.assert_close(last["ema"][name], average[name])
        torch.testing.assert_close(best["model"][name], average[name])


@pytest.mark.parametrize("device_batch", [1, 4])
def test_gradient_accumulation_matches_the_full_batch(points, config, change, out, device_batch):
    fit(points(), config, out / "whole")
    fit(points(), change(config, device_batch_size=device_batch), out / "cut")
    for name, value in weights(out / "whole" / "last.pt").items():
        torch.testing.assert_close(weights(out / "cut" / "last.pt")[name], value, rtol=1e-4, atol=1e-6)


def test_epoch_steps_sets_the_updates_per_epoch(points, config, change, out):
    """Evaluation after every 4 updates of 8 of 48 points, with the lowest rate after 5 x 4 updates."""
    outcome = fit(points(), change(config, epochs=5, epoch_steps=4, warmup_epochs=0), out)
    assert [line["step"] for line in records(out)] == [4, 8, 12, 16, 20]
    assert outcome.updates == 20
    rates = [json.loads(line)["lr"] for line in (out / "steps.jsonl").read_text().splitlines()]
    assert rates == pytest.approx([1e-4 + (1e-2 - 1e-4) * (1 + math.cos(math.pi * n / 20)) / 2 for n in range(20)])


def test_epoch_steps_may_exceed_the_dataset(points, config, change, out):
    """A dataset smaller than the batch size, which is rejected without epoch_steps."""
    few = points(data=torch.utils.data.TensorDataset(torch.randn(5, 3), torch.tensor([0, 1, 0, 1, 0])))
    assert fit(few, change(config, epochs=2, epoch_steps=3, warmup_epochs=0), out).updates == 6


def test_the_same_seed_gives_the_same_weights_for_any_number_of_workers(points, config, change, out):
    for name, workers in (("a", 0), ("b", 0), ("c", 2)):
        fit(points(dropout=0.5), change(config, epochs=2, workers=workers), out / name)
    assert_equal(weights(out / "a" / "last.pt"), weights(out / "b" / "last.pt"))
    assert_equal(weights(out / "a" / "last.pt"), weights(out / "c" / "last.pt"))


def test_another_seed_gives_other_weights(points, config, change, out):
    for seed in (0, 1):
        fit(points(), change(config, epochs=1, seed=seed), out / str(seed))
    assert not torch.equal(weights(out / "0" / "last.pt")["0.weight"], weights(out / "1" / "last.pt")["0.weight"])


def test_a_kill_between_log_and_checkpoint_leaves_no_duplicate_lines(points, config, out):
    with pytest.raises(KeyboardInterrupt):
        fit(points(), config, out, listener=Stop(2))
    log = out / "metrics.jsonl"
    log.write_text(log.read_text() + '{"epoch": 3, "step": 18, "val_top1": 50.0}\n{"epoch": 4, "st')
    fit(points(), config, out, resume=out / "last.pt")
    assert [line["epoch"] for line in records(out)] == [1, 2, 3, 4]


def test_resuming_a_finished_run_changes_nothing(points, config, out):
    first, written = fit(points(), config, out), records(out)
    again = fit(points(), config, out, resume=out / "last.pt")
    assert (again.best, again.best_epoch, records(out)) == (first.best, first.best_epoch, written)
    assert len(again.history) == len(written) == 4


def test_log_entries_are_means_since_the_previous_entry(points, config, change, out):
    task = points()
    fit(task, change(config, epochs=1, log_every=4, device_batch_size=4), out)
    lines = [json.loads(line) for line in (out / "steps.jsonl").read_text().splitlines()]
    assert [(line["update"], line["epoch"], line["step"]) for line in lines] == [(4, 1, 4), (6, 1, 6)]
    assert lines[0]["loss"] == pytest.approx(sum(task.losses[:8]) / 8, rel=1e-6)  # two passes per update
    assert lines[1]["loss"] == pytest.approx(sum(task.losses[8:]) / 4, rel=1e-6)
    assert records(out)[0]["train_loss"] == pytest.approx(sum(task.losses) / 12, rel=1e-6)
    for line in lines:
        assert {"top1", "lr", "time"} <= line.keys()
        assert line["images_per_second"] > 0
        assert line["data_wait_seconds"] >= 0
        assert line["memory_bytes"] > 1e7  # a process with PyTorch in it


def test_ctrl_c_within_an_epoch_keeps_the_last_complete_epoch(points, config, out):
    task = points()

    def interrupt(count):
        if count == 15:  # in the third epoch
            raise KeyboardInterrupt

    task.before_loss = interrupt
    with pytest.raises(KeyboardInterrupt):
        fit(task, config, out)
    assert read_checkpoint(out / "last.pt")["epoch"] == 2


def test_an_existing_run_is_not_overwritten(points, config, change, out):
    fit(points(), config, out)
    before = (out / "last.pt").read_bytes()
    with pytest.raises(FovealError, match=r"already holds a run: pass --resume"):
        fit(points(), change(config, seed=1), out)
    assert (out / "last.pt").read_bytes() == before


def test_an_unwritable_folder_is_rejected_before_training(points, config, tmp_path):
    (tmp_path / "file").touch()
    task = points()
    with pytest.raises(FovealError, match="file is a file: pass --out with a folder"):
        fit(task, config, tmp_path / "file" / "run")
    assert not task.losses


def test_resuming_with_other_settings_is_rejected_by_name(points, config, change, out):
    fit(points(), change(config, epochs=1), out)
    with pytest.raises(FovealError, match=r"started with lr = 0.01, not 0.02"):
        fit(points(), change(config, epochs=1, lr=0.02), out, resume=out / "last.pt")
    fit(points(), change(config, epochs=1, workers=1), out, resume=out / "last.pt")  # performance settings may change


def test_best_pt_cannot_be_resumed(points, config, out):
    fit(points(), config, out)
    with pytest.raises(FovealError, match=r"resume from the last.pt"):
        fit(points(), config, out, resume=out / "best.pt")


def test_a_training_set_smaller_than_a_batch_is_rejected(points, config, change, out):
    with pytest.raises(FovealError, match=r"--batch-size with at most 48"):
        fit(points(), change(config, batch_size=64), out)
    assert not out.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="fp16 is rejected only on a CPU")
def test_fp16_without_a_gpu_is_rejected(points, config, change, out):
    with pytest.raises(FovealError, match=r"fp16 needs a GPU"):
        fit(points(), change(config, precision="fp16"), out)


def test_bf16_computes_in_bf16_and_keeps_weights_in_fp32(points, config, change, out):
    task, seen = points(), []
    task.model[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    fit(task, change(config, epochs=1, precision="bf16"), out)
    assert set(seen) == {torch.bfloat16}
    assert {value.dtype for value in weights(out / "last.pt").values()} == {torch.float32}


def test_the_best_metric_may_be_the_lowest(points, config, out):
    task = points()
    task.monitor, task.higher_is_better = "error", False
    errors = iter([3.0, 1.0, 2.0, 1.0])
    task.evaluate = lambda model, processes, on_batch: {"error": next(errors)}
    outcome = fit(task, config, out)
    assert (outcome.best, outcome.best_epoch) == (1.0, 2)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("epochs", 0), ("lr", 0.0), ("batch_size", -1), ("ema_decay", 1.5), ("lr", math.nan), ("workers", -2)],
)
def test_invalid_settings_are_rejected_by_name(config, change, setting, value):
    with pytest.raises(FovealError, match=rf"^{setting} must"):
        change(config, **{setting: value})


def normed(task):
    task.model.insert(1, torch.nn.BatchNorm1d(8))
    return task


def test_batch_norm_rejects_a_device_batch_size_of_1_before_the_first_step(points, config, change, out):
    task = normed(points())
    with pytest.raises(FovealError, match=r"batch norm, which cannot be trained with a device batch of 1"):
        fit(task, change(config, device_batch_size=1), out)
    assert not task.losses
    assert not out.exists()


@pytest.mark.parametrize("why", ["loss", "batch norm"])
def test_resuming_with_another_device_batch_size_is_rejected_if_it_changes_training(points, config, change, out, why):
    def task():
        made = points() if why == "loss" else normed(points())
        made.mixes = why == "loss"
        return made

    config = change(config, epochs=1)
    fit(task(), config, out)
    with pytest.raises(FovealError, match=rf"its {why} depends on that: resume it with --device-batch-size 8\.$"):
        fit(task(), change(config, device_batch_size=4), out, resume=out / "last.pt")
    fit(task(), change(config, device_batch_size=8), out, resume=out / "last.pt")


def test_the_device_batch_size_may_change_on_resume_if_samples_are_independent(points, config, change, out):
    config = change(config, epochs=1)
    fit(points(), config, out)
    fit(points(), change(config, device_batch_size=4), out, resume=out / "last.pt")


def test_a_warmup_longer_than_the_run_is_rejected(config, change):
    with pytest.raises(FovealError, match=r"warmup_epochs must be at most epochs, not 5 of 4"):
        change(config, warmup_epochs=5)


class Waits(TorchDispatchMode):
    """Counts operators for which the host waits for a device: reading a number, shapes that depend on values."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += torch.Tag.data_dependent_output in function.tags
        self.count += torch.Tag.dynamic_output_shape in function.tags
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("clip", [1.0, None])
def test_an_update_waits_for_a_gpu_only_where_it_is_logged_or_saved(points, config, change, out, monkeypatch, clip):
    """On the CPU, which is made to look like a device whose operators are queued; six updates per epoch."""
    per_update, train_pass, update, init = [], loop._train_pass, loop._update, processes.Processes.__init__

    class Task(points):
        def loss(self, model, batch):
            with _disable_current_modes():  # this task notes its losses
                return super().loss(model, batch)

    def counted_pass(*args):
        with Waits() as waits:
            train_pass(*args)
        per_update.append(waits.count)

    def counted_update(run):
        with Waits() as waits:
            update(run)
        per_update[-1] += waits.count

    def asynchronous(self, accelerator):
        init(self, accelerator)
        self.is_asynchronous = True

    monkeypatch.setattr(loop, "_train_pass", counted_pass)
    monkeypatch.setattr(loop, "_update", counted_update)
    monkeypatch.setattr(processes.Processes, "__init__", asynchronous)
    monkeypatch.setattr(finite.Glance, "number", lambda self: 0.0)  # there it has arrived
    settings = dict(optimizer="momentum", clip_norm=clip, epochs=2)  # AdamW counts its updates on the host
    fit(Task(), change(config, log_every=4, save_steps=5, **settings), out)
    assert per_update == [0, 0, 0, 1, 1, 1] * 2


def test_the_count_of_waits_sees_a_look_at_the_loss():
    with Waits() as waits:
        torch.ones(3).sum().item()
        torch.ones(3).nonzero()
    assert waits.count == 2
