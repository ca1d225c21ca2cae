"""A checkpoint is complete at any time, even if writing is interrupted."""

import contextlib
import os
import signal
from pathlib import Path

import pytest
import torch

from foveal.errors import FovealError
from foveal.models.weights_file import WeightsFile
from foveal.training.checkpoint import read_checkpoint, save_checkpoint

OLD, NEW = ({"card": {"model": "points"}, "step": step, "model": {"w": torch.full((4,), step)}} for step in (1, 2))


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_saved_checkpoint_is_restored(tmp_path):
    save_checkpoint(OLD, tmp_path / "last.pt")
    state = read_checkpoint(tmp_path / "last.pt")
    assert state["step"] == 1
    assert torch.equal(state["model"]["w"], OLD["model"]["w"])
    assert WeightsFile.open(tmp_path / "last.pt").metadata == {"model": "points"}
    assert files(tmp_path) == ["last.pt"]


def killed_before_rename(path):
    """Save in a forked process that is killed when it renames the file, and return its exit status."""
    child = os.fork()
    if child == 0:
        Path.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
        with contextlib.suppress(BaseException):
            save_checkpoint(NEW, path)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def test_a_kill_between_write_and_rename_keeps_the_old_file(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(OLD, path)
    assert killed_before_rename(path) == signal.SIGKILL
    assert files(tmp_path) == [".last.pt.part", "last.pt"]
    assert read_checkpoint(path)["step"] == 1
    save_checkpoint(NEW, path)  # the partial file is cleaned up
    assert files(tmp_path) == ["last.pt"]
    assert read_checkpoint(path)["step"] == 2


def test_an_interrupted_write_keeps_the_old_file_and_no_partial_file(tmp_path, monkeypatch):
    save_checkpoint(OLD, tmp_path / "last.pt")

    def interrupted(state, file):
        file.write(b"half a checkpoint")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(NEW, tmp_path / "last.pt")
    assert read_checkpoint(tmp_path / "last.pt")["step"] == 1
    assert files(tmp_path) == ["last.pt"]


def test_a_full_disk_raises_a_one_line_error_and_keeps_the_old_file(tmp_path, monkeypatch):
    save_checkpoint(OLD, tmp_path / "last.pt")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FovealError, match=r"No space left on device.*make room"):
        save_checkpoint(NEW, tmp_path / "last.pt")
    assert read_checkpoint(tmp_path / "last.pt")["step"] == 1
    assert files(tmp_path) == ["last.pt"]


def test_a_truncated_file_raises_a_one_line_error(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(OLD, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(FovealError, match=r"last.pt"):
        read_checkpoint(path)


def test_a_file_from_another_program_cannot_be_resumed(tmp_path):
    torch.save({"w": torch.zeros(2)}, tmp_path / "weights.pth")
    assert WeightsFile.open(tmp_path / "weights.pth").metadata is None
    with pytest.raises(FovealError, match=r"not written by foveal train"):
        read_checkpoint(tmp_path / "weights.pth")


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    torch.save({"card": {}, "model": Trap()}, tmp_path / "last.pt")
    with pytest.raises(FovealError):
        read_checkpoint(tmp_path / "last.pt")
    assert not (tmp_path / "sprung").exists()


def test_checkpoints_have_default_permissions(tmp_path):
    save_checkpoint(OLD, tmp_path / "last.pt")
    (tmp_path / "plain").touch()
    assert (tmp_path / "last.pt").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_damaged_checkpoint_raises_an_error_with_advice(tmp_path):
    (tmp_path / "last.pt").write_bytes(b"PK")
    with pytest.raises(FovealError, match=r"start from best.pt with --checkpoint\.$") as caught:
        read_checkpoint(tmp_path / "last.pt")
    assert "download" not in str(caught.value)
