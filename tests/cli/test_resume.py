"""``foveal train --resume`` needs nothing retyped, lengthens a run, and says what a finished run can do."""

import json
import re
from contextlib import contextmanager

import pytest

from foveal.tasks.classification.task import ClassificationTask
from foveal.training.checkpoint import read_checkpoint
from foveal.training.processes import Interruption

RECIPE = "digits.transnext_atto"


def updates(out):
    return read_checkpoint(out / "last.pt")["step"]


def epochs(out):
    return [json.loads(line)["epoch"] for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def start(foveal, colours, quick, tmp_path):
    """Start a run of two epochs of three updates in the folder ``run``."""

    def started(*words, out=tmp_path / "run"):
        said = foveal("train", RECIPE, "--data", colours, "--out", out, *quick, "--epochs", "2", *words)
        assert said.code == 0, said.error
        return out

    return started


@pytest.fixture
def leaving(monkeypatch):
    """A context in which runs are asked to stop in their first update, as by a scheduler."""
    return lambda: patched(monkeypatch, Interruption, "agreed", lambda self, processes: True)


@contextmanager
def patched(monkeypatch, owner, name, value):
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, value)
        yield


@pytest.fixture
def cut(start, leaving):
    """Start a run that leaves in its first update."""

    def make(*words):
        with leaving():
            return start(*words)

    return make


def test_the_folder_is_all_that_resuming_needs(foveal, cut, start, tmp_path):
    out = cut()
    assert updates(out) == 1
    said = foveal("train", "--resume", "--out", out)
    assert said.code == 0, said.error
    assert epochs(out) == [1, 2]
    whole = start(out=tmp_path / "whole")
    one, other = (read_checkpoint(folder / "last.pt")["model"] for folder in (out, whole))
    assert all((value == other[name]).all() for name, value in one.items())


def test_the_recipe_is_all_that_a_run_in_its_usual_folder_needs(foveal, cut, tmp_path, monkeypatch):
    cut().rename(tmp_path / "moved")
    (tmp_path / "runs").mkdir()
    (tmp_path / "moved").rename(tmp_path / "runs" / RECIPE)
    monkeypatch.chdir(tmp_path)
    assert foveal("train", RECIPE, "--resume").code == 0
    assert epochs(tmp_path / "runs" / RECIPE) == [1, 2]


def test_a_run_that_is_told_to_leave_says_how_it_goes_on(foveal, cut, leaving):
    out = cut()
    with leaving():
        said = foveal("train", "--resume", "--out", out)
    assert said.out == (
        f"Stopped after update 2. State saved to {out / 'last.pt'}; `foveal train --resume --out {out}` continues.\n"
    )


def test_requeue_needs_only_the_folder_of_a_run(foveal, cut, tmp_path):
    out = cut()
    assert foveal("train", "--requeue", "--out", out).code == 0
    assert epochs(out) == [1, 2]
    said = foveal("train", "--requeue", "--out", tmp_path / "none")
    assert said.code == 2
    assert said.is_one_sentence("A recipe is missing")


def test_options_that_may_change_are_taken_from_the_command_line_and_kept(foveal, cut):
    out = cut()
    assert foveal("train", "--resume", "--out", out, "--save-steps", "2").code == 0
    assert read_checkpoint(out / "last.pt")["config"]["save_steps"] == 2
    assert "save-steps = 2" in (out / "run.toml").read_text()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--lr", "0.1"], "started with lr = 0.005, not 0.1"),
        (["--model", "test_resnet"], "started with model = test_convnext, not test_resnet"),
        (["--size", "48"], "started with preprocessing"),
        (["digits.transxnet_atto"], "was started with the recipe digits.transnext_atto, not digits.transxnet_atto"),
    ],
)
def test_options_that_may_not_change_are_refused_and_not_kept(foveal, cut, words, part):
    out = cut()
    before = (out / "run.toml").read_text()
    said = foveal("train", *words, "--resume", "--out", out)
    assert said.code == 1
    assert said.is_one_sentence(part, "--out")
    assert (out / "run.toml").read_text() == before


def test_weights_that_a_run_started_from_need_not_be_there_any_more(foveal, cut, trained):
    out = cut("--checkpoint", trained)
    trained.unlink()
    said = foveal("train", "--resume", "--out", out)
    assert said.code == 0, said.error
    assert epochs(out) == [1, 2]


def test_settings_that_follow_from_the_number_of_images_are_the_same_again(foveal, colours, tmp_path, monkeypatch):
    """photos.MODEL chooses size, passes, batch and rate for 24 images; only --epochs was asked for."""
    out = tmp_path / "run"
    words = ["train", "photos.test_convnext", "--data", colours, "--out", out, "--epochs", "2", "--workers", "0"]
    assert foveal(*words).code == 0
    before = read_checkpoint(out / "last.pt")
    assert before["config"]["batch_size"] == 4  # not the 64 of the recipe
    said = foveal("train", "--resume", "--out", out, "--epochs", "3")
    assert said.code == 0, said.error
    after = read_checkpoint(out / "last.pt")
    assert (after["epoch"], after["config"]["batch_size"], after["config"]["lr"]) == (3, 4, before["config"]["lr"])
    for name in ("train", "val"):
        (colours / name / "red" / "9.png").write_bytes((colours / name / "red" / "1.png").read_bytes())
    said = foveal("train", "--resume", "--out", out)
    assert said.is_one_sentence("started with 24 training images, not 25")


def test_a_run_is_lengthened_and_stays_so(foveal, start):
    out = start()
    said = foveal("train", "--resume", "--out", out, "--epochs", "4")
    assert said.code == 0, said.error
    assert epochs(out) == [1, 2, 3, 4]
    assert "The run ends after epoch 4 instead of 2. The learning rate was " in said.error
    assert re.search(r"4 epochs of 3 updates, .*, resuming after epoch 2\n", said.error)
    assert "epochs = 4" in (out / "run.toml").read_text()
    assert foveal("train", "--resume", "--out", out).code == 0  # with the new length


def test_a_finished_run_says_so_and_how_it_is_lengthened(foveal, start):
    out = start()
    before = (out / "last.pt").read_bytes()
    said = foveal("train", "--resume", "--out", out)
    assert said.code == 0
    assert f"The run was finished, after 2 epochs; `foveal train --resume --out {out} --epochs 4` " in said.out
    assert (out / "last.pt").read_bytes() == before


def test_a_run_that_stopped_early_says_so_and_how_it_goes_on(foveal, colours, quick, tmp_path, monkeypatch):
    values = iter([60.0, 50.0, 50.0, 50.0])
    monkeypatch.setattr(ClassificationTask, "evaluate", lambda *rest: {"top1": next(values), "loss": 1.0})
    out = tmp_path / "run"
    said = foveal("train", RECIPE, "--data", colours, "--out", out, *quick, "--patience", "2")
    assert said.code == 0, said.error
    assert said.out.splitlines()[0] == "No improvement for 2 epochs: stopped after epoch 3 of 4."
    again = foveal("train", "--resume", "--out", out)
    assert again.out.splitlines()[0] == (
        "No improvement for 2 epochs: stopped after epoch 3 of 4. "
        f"`foveal train --resume --out {out} --patience 4` goes on."
    )
    assert foveal("train", "--resume", "--out", out, "--patience", "4").code == 0
    assert epochs(out) == [1, 2, 3, 4]


def test_a_run_of_an_earlier_version_needs_everything_retyped(foveal, cut, colours, quick):
    """It has no run.toml; a missing option is named, also --epochs, which would otherwise lengthen the run."""
    out = cut()
    (out / "run.toml").unlink()
    said = foveal("train", "--resume", "--out", out)
    assert said.is_one_sentence(f"{out} has no run.toml", f"pass the recipe {RECIPE} and the options")
    words = ["train", RECIPE, "--resume", "--out", out, "--data", colours, *quick]
    without_epochs = [word for word in words if word not in ("--epochs", "4")]
    assert foveal(*without_epochs).is_one_sentence("started with epochs = 2, not ")
    without_lr = [word for word in words if word not in ("--lr", "5e-3")]
    assert foveal(*without_lr, "--epochs", "2").is_one_sentence("started with lr = 0.005, not ")
    assert foveal(*words, "--epochs", "2").code == 0
    assert (out / "run.toml").exists()


@pytest.mark.parametrize("words", [["--resume"], ["--requeue"]])
def test_which_run_is_meant_must_be_said(foveal, words):
    said = foveal("train", *words)
    assert said.code == 2
    assert said.is_one_sentence("RECIPE", "--out DIR")


def test_a_folder_without_a_run_is_named(foveal, tmp_path):
    said = foveal("train", "--resume", "--out", tmp_path)
    assert said.is_one_sentence(f"no run to continue, {tmp_path / 'last.pt'} does not exist")
