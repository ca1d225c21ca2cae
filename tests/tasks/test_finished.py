"""What an evaluation keeps: found by the same facts alone, whole or not at all, and never at the cost of an answer."""

import time

import pytest
import torch
from torch import nn

from foveal.tasks import finished as module
from foveal.tasks.finished import Finished, files_digest, weights_digest
from foveal.training.loading import Started
from foveal.training.samples import Skipped


def test_a_part_is_found_by_the_same_facts_alone(tmp_path):
    Finished(tmp_path, {"weights": "a"}).put({"top1": torch.tensor(3.0)}, size=32)
    again = Finished(tmp_path, {"weights": "a"})
    assert again.get(size=32) == {"top1": torch.tensor(3.0)}
    assert again.get(size=48) is None
    assert Finished(tmp_path, {"weights": "b"}).get(size=32) is None
    assert again.reused == 1


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nothing = Finished()
    nothing.put({"top1": 1.0}, size=32)
    nothing.middle(size=32).offer(dict, Started)
    nothing.remove(size=32)
    assert nothing.get(size=32) is None
    assert not list(tmp_path.iterdir())


def test_the_middle_of_a_part_goes_on_and_its_time_adds_up(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "EVERY", 0)
    one = Finished(tmp_path, {}).middle(size=32)
    time.sleep(0.05)
    one.offer(lambda: {"right": 5}, lambda: Started(8, (Skipped(3, "d.png"),)))
    other = Finished(tmp_path, {}).middle(size=32)
    assert (other.state, other.started) == ({"right": 5}, Started(8, (Skipped(3, "d.png"),)))
    assert other.elapsed >= 0.05
    finished = Finished(tmp_path, {})
    finished.put({"right": 9}, size=32)
    assert finished.middle(size=32).state is None


def test_writes_are_some_time_apart(tmp_path):
    middle = Finished(tmp_path, {}).middle()
    middle.offer(lambda: pytest.fail("written at once"), Started)


def test_a_damaged_file_counts_as_missing(tmp_path):
    finished = Finished(tmp_path, {})
    finished.put({"top1": 1.0}, size=32)
    (file,) = finished.folder.iterdir()
    file.write_bytes(file.read_bytes()[:40])
    assert finished.get(size=32) is None


def test_a_full_disk_costs_no_answer(tmp_path):
    (tmp_path / "finished").write_text("a file where the folder should be")
    finished = Finished(tmp_path, {})
    finished.put({"top1": 1.0}, size=32)
    assert "could not be written" in finished.failure
    assert not finished.keeps


def test_images_that_were_changed_are_others(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"one")
    before = files_digest([file], [0])
    assert files_digest([file], [0]) == before
    assert files_digest([file], [1]) != before
    file.write_bytes(b"other")
    assert files_digest([file], [0]) != before


def test_weights_without_a_file_are_told_apart_by_their_values():
    torch.manual_seed(0)
    model = nn.BatchNorm1d(2)
    before = weights_digest(None, model)
    assert weights_digest(None, model) == before
    model.num_batches_tracked += 1
    assert weights_digest(None, model) != before
