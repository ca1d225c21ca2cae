"""Trackers get the numbers of the logs, and a resumed run goes on in the same run of a tracker."""

import json
import subprocess
import sys
import types

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker

from foveal.errors import FovealError
from foveal.training import fit, tracking
from foveal.training.listener import Listener, Listeners
from foveal.training.tracking import Tracking


class Leave(Listener):
    def saved(self, update, path):
        if update == 10:
            raise KeyboardInterrupt


class StandIn(GeneralTracker):
    """A tracker that records its calls."""

    name = "stand_in"
    requires_logging_directory = False
    made: list["StandIn"]
    fails_at = None

    def __init__(self, project, **arguments):
        super().__init__()
        self.project, self.arguments = project, arguments
        self.logged, self.settings, self.is_finished = [], [], False
        self.made.append(self)

    @property
    def tracker(self):
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="run 7"))

    def store_init_configuration(self, values):
        self.settings.append(values)

    def log(self, values, step=None, **kwargs):
        if step == self.fails_at:
            raise OSError("connection lost\ndetails")
        self.logged.append((step, values))

    def finish(self):
        self.is_finished = True


@pytest.fixture
def stand_in(monkeypatch):
    """Register a stand-in under the given name; returns its class, whose ``made`` are its instances."""

    def register(name):
        made = type("StandInOf" + name, (StandIn,), {"name": name, "made": []})
        monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, name, made)
        monkeypatch.setattr(tracking, "_is_installed", lambda module: True)
        return made

    return register


def lines(out, name):
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def events(out):
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = loading.EventAccumulator(str(out / "tensorboard"), size_guidance={"scalars": 0})
    found.Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def cut_and_resumed(points, config, change, out, names):
    """A run that is stopped after update 10, saved after 8, and resumed."""
    config, said = change(config, save_steps=4), []
    with pytest.raises(KeyboardInterrupt):
        fit(points(), config, out, listener=Listeners([Tracking(names, out, said.append), Leave()]))
    fit(points(), config, out, listener=Tracking(names, out, said.append), resume=out / "last.pt")
    return said


def test_scalars_of_tensorboard_match_the_logs_even_after_resuming(points, config, change, out):
    assert cut_and_resumed(points, config, change, out, ["tensorboard"]) == []
    steps, epochs = lines(out, "steps.jsonl"), lines(out, "metrics.jsonl")
    shown = events(out)
    assert shown["train/loss"] == [(line["update"], pytest.approx(line["loss"])) for line in steps]
    assert shown["lr"] == [(line["update"], pytest.approx(line["lr"])) for line in steps]
    assert shown["val/top1"] == [(line["step"], pytest.approx(line["val_top1"])) for line in epochs]
    assert {"train/top1", "speed/images_per_second", "speed/data_wait_seconds", "memory/peak_gib"} <= shown.keys()


def test_a_tracker_gets_every_look_every_epoch_and_the_settings(points, config, stand_in, out):
    found = stand_in("stand_in")
    fit(points(), config, out, listener=Tracking(["stand_in"], out, print))
    [tracker] = found.made
    looks = [(step, values["train/loss"], values["lr"]) for step, values in tracker.logged if "lr" in values]
    assert looks == [(line["update"], line["loss"], line["lr"]) for line in lines(out, "steps.jsonl")]
    epochs = [(step, values) for step, values in tracker.logged if "lr" not in values]
    assert epochs == [(line["step"], {"val/top1": line["val_top1"]}) for line in lines(out, "metrics.jsonl")]
    [settings] = tracker.settings
    assert (settings["model"], settings["lr"], settings["training_images"]) == ("points", 0.01, 48)
    assert {type(value) for value in settings.values()} <= {bool, int, float, str}
    assert tracker.is_finished


def test_wandb_and_mlflow_go_on_in_the_same_run(points, config, change, stand_in, out, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    wandb, mlflow = stand_in("wandb"), stand_in("mlflow")
    cut_and_resumed(points, config, change, out, ["wandb", "mlflow"])
    first, second = wandb.made
    assert first.arguments == second.arguments == {
        "name": "run", "dir": str(out), "id": first.arguments["id"], "resume": "allow",
    }  # fmt: skip
    assert first.project == "mine"
    assert [one.arguments["run_id"] for one in mlflow.made] == [None, "run 7"]
    assert [len(one.settings) for one in (*wandb.made, *mlflow.made)] == [1, 0, 1, 0]
    assert all(one.is_finished for one in (*wandb.made, *mlflow.made))


def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(points, config, stand_in, out):
    broken, whole, said = stand_in("broken"), stand_in("whole"), []
    broken.fails_at = 3
    outcome = fit(points(), config, out, listener=Tracking(["broken", "whole"], out, said.append))
    assert outcome.updates == 24
    assert said == ["broken failed and gets nothing more of this run (connection lost)."]
    assert [len(found.made[0].logged) for found in (broken, whole)] == [2, 28]


def test_a_tracker_that_cannot_start_is_one_sentence(points, config, stand_in, out):
    refusing = stand_in("refusing")
    refusing.start = lambda self: (_ for _ in ()).throw(OSError("not logged in"))
    with pytest.raises(FovealError, match=r"^refusing could not be started \(not logged in\): correct that"):
        fit(points(), config, out, listener=Tracking(["refusing"], out, print))
    assert not (out / "last.pt").exists()


def test_an_unknown_tracker_is_rejected_with_a_near_name(out):
    with pytest.raises(FovealError, match=r"There is no tracker 'tensorbord', did you mean tensorboard: --track takes"):
        Tracking(["tensorbord"], out, print)


def test_a_missing_package_is_named_with_its_command(out, monkeypatch):
    monkeypatch.setattr(tracking, "_is_installed", lambda module: False)
    with pytest.raises(FovealError, match=r"--track wandb needs wandb: install it with `pip install wandb`"):
        Tracking(["wandb"], out, print)
    with pytest.raises(FovealError, match=r"`pip install comet-ml`"):
        Tracking(["comet_ml"], out, print)


def test_no_tracker_is_imported_unless_asked():
    code = "import sys, foveal.cli.train, foveal.training.loop; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"tensorboard", "wandb", "mlflow", "accelerate"} & set(done.stdout.split()) == set()
