"""``device_batch_size="auto"`` takes the largest device batch that fits, and keeps it for the whole run."""

import json
import types

import pytest
import torch

from foveal.errors import FovealError
from foveal.training import device_batch, fit
from foveal.training.batching import Share
from foveal.training.checkpoint import read_checkpoint
from foveal.training.listener import Listener
from foveal.training.processes import start_processes


class Stop(Listener):
    def saved(self, update, path):
        raise KeyboardInterrupt


@pytest.fixture
def measured(points, monkeypatch):
    """A task that takes 100 bytes and 10 per image, on a machine with 200 free bytes, of which a tenth stays free."""
    monkeypatch.setattr(device_batch, "available_memory", lambda: 200)

    def make(**changes):
        task = points()
        task.device_memory = lambda batch, processes: 100 + 10 * batch
        task.check_split = lambda batching: None
        for name, value in changes.items():
            setattr(task, name, value)
        return task

    return make


@pytest.fixture
def auto(config, change):
    """Updates of 24 images: device batches of 1, 2, 3, 4, 6, 8, 12 or 24."""
    return change(config, epochs=2, batch_size=24, device_batch_size="auto", save_steps=1)


def batching(out):
    return json.loads((out / "run.json").read_text())["batching"]


@pytest.mark.parametrize(("most", "found"), [(0, 0), (1, 1), (5, 4), (8, 8), (99, 8)])
def test_the_largest_size_is_found_in_few_looks(most, found):
    looks = []
    assert device_batch._largest([1, 2, 4, 8], lambda size: looks.append(size) or size <= most) == found
    assert len(looks) <= 3


def test_the_largest_that_fits_is_taken_and_accumulated(measured, auto, out):
    """100 + 10 x 8 bytes are just 180."""
    fit(measured(), auto, out)
    assert batching(out) == {"effective": 24, "processes": 1, "device": 8, "accumulation": 3}
    notice, *_ = json.loads((out / "run.json").read_text())["notices"]
    assert notice.startswith("The device batch is 8, the largest that fits into 0.0 GiB of free memory")


def test_a_run_with_the_size_that_was_found_equals_one_with_that_number(measured, auto, change, out):
    fit(measured(), auto, out / "auto")
    fit(measured(), change(auto, device_batch_size=8), out / "eight")
    one, other = (read_checkpoint(out / name / "last.pt")["model"] for name in ("auto", "eight"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_resumed_run_keeps_the_size_whatever_memory_there_is(measured, auto, out, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        fit(measured(), auto, out / "cut", listener=Stop())
    monkeypatch.setattr(device_batch, "available_memory", lambda: 120)
    fit(measured(), auto, out / "cut", resume=out / "cut" / "last.pt")
    assert read_checkpoint(out / "cut" / "last.pt")["batching"]["device"] == 8
    monkeypatch.setattr(device_batch, "available_memory", lambda: 200)
    fit(measured(), auto, out / "whole")
    one, other = (read_checkpoint(out / name / "last.pt")["model"] for name in ("cut", "whole"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_sizes_that_cannot_be_trained_with_are_passed_over(measured, auto, out, monkeypatch):
    """Only pairs and threes fit; mixup refuses the three, and batch norm the one."""

    def even(split):
        if split.device % 2:
            raise FovealError("odd")

    monkeypatch.setattr(device_batch, "available_memory", lambda: 145)  # 130.5 are for three images
    fit(measured(check_split=even), auto, out / "mixup")
    assert batching(out / "mixup")["device"] == 2
    monkeypatch.setattr(device_batch, "available_memory", lambda: 123)  # 110.7 are for one image
    normed = measured()
    normed.model.insert(1, torch.nn.BatchNorm1d(8))
    with pytest.raises(FovealError, match=r"^Not even device batches of 2 fit into 0.0 GiB of free memory"):
        fit(normed, auto, out / "normed")
    assert not (out / "normed").exists()


def test_memory_that_depends_on_the_content_of_images_is_not_searched(measured, auto, out):
    with pytest.raises(FovealError, match=r"depends on the content of the images: pass a number"):
        fit(measured(device_memory=lambda batch, processes: None), auto, out)


def test_on_a_gpu_sizes_are_tried_until_they_run_out_of_memory(measured, auto, monkeypatch):
    tried = []

    def attempt(task, config, processes, size):
        tried.append(size)
        if size > 6:
            raise torch.cuda.OutOfMemoryError("out of memory")

    monkeypatch.setattr(device_batch, "_try", attempt)
    device = torch.device("cuda", 0)
    gpu = types.SimpleNamespace(device=device, share=Share(0, 1), gather_objects=list)
    found, notices = device_batch.choose_batching(measured(), auto, gpu, None)
    assert (found.device, found.accumulation) == (6, 4)
    assert notices == ["The device batch is 6, the largest that fits into the memory of cuda:0."]
    assert len(tried) <= 3


def test_a_trial_is_two_updates_of_a_copy(points, config, change, monkeypatch):
    """Here on the CPU, as on a GPU with 1,000 bytes."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(total_memory=1000))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    task, sizes = points(), []
    before, loss = {name: value.clone() for name, value in task.model.state_dict().items()}, task.loss
    task.loss = lambda model, batch: sizes.append(len(batch[1])) or loss(model, batch)
    device_batch._try(task, change(config, batch_size=24), start_processes(), 6)
    assert sizes == [6, 6]
    assert all(torch.equal(value, before[name]) for name, value in task.model.state_dict().items())
    assert all(parameter.grad is None for parameter in task.model.parameters())


def test_all_processes_take_what_fits_on_each(measured, auto):
    two = types.SimpleNamespace(device=torch.device("cpu"), share=Share(0, 2), gather_objects=lambda own: [*own, 3])
    found, _ = device_batch.choose_batching(measured(), auto, two, None)  # 24 on two: 1, 2, 3, 4, 6 or 12 images
    assert (found.device, found.accumulation) == (3, 4)


@pytest.mark.parametrize(("limit", "free"), [("1000\n", 500), ("max\n", 2000), ("9000\n", 2000)])
def test_free_memory_is_that_of_the_container(tmp_path, monkeypatch, limit, free):
    """Of 600 bytes taken, 100 are files that the system may drop."""
    monkeypatch.setattr("psutil.virtual_memory", lambda: types.SimpleNamespace(available=2000))
    monkeypatch.setattr(device_batch, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text("600\n")
    (tmp_path / "memory.stat").write_text("anon 300\ninactive_file 100\n")
    assert device_batch.available_memory() == free


def test_without_a_container_free_memory_is_that_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: types.SimpleNamespace(available=2000))
    monkeypatch.setattr(device_batch, "CGROUP", tmp_path)
    assert device_batch.available_memory() == 2000


@pytest.mark.parametrize("value", ["big", 0])
def test_other_words_are_rejected(config, change, value):
    with pytest.raises(FovealError, match=r"device_batch_size must be "):
        change(config, device_batch_size=value)
