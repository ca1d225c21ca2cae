"""Training on two processes matches training on one."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from foveal.errors import FovealError
from foveal.training.adapting import adapt
from foveal.training.batching import Share
from foveal.training.checkpoint import read_checkpoint
from foveal.training.processes import start_processes

#: Reads lists of runs, one list per line, and forks a process for each run: starting Python and PyTorch every time
#: would take longer than the runs themselves.
SCRIPT = """
import importlib.util, json, os, signal, sys, traceback
from pathlib import Path
import accelerate
spec = importlib.util.spec_from_file_location("points", sys.argv[1])
points = importlib.util.module_from_spec(spec)
spec.loader.exec_module(points)
from foveal.training import TrainConfig, fit
from foveal.training.processes import leave_processes

def train(out, wish):
    out = Path(out)
    config = TrainConfig(
        epochs=4, batch_size=8, device_batch_size=2, lr=1e-2, warmup_epochs=0, ema_decay=0.9, clip_norm=1.0, workers=0,
        log_every=wish.get("log_every", 1), patience=wish.get("patience"),
    )
    task = points.PointsTask(points.Points(count=51))
    def notice(count):  # signal the process of the given rank in forward pass `passes`
        if int(os.environ.get("RANK", 0)) == wish["notified"] and count == wish["passes"]:
            os.kill(os.getpid(), signal.SIGTERM)
    if "notified" in wish:
        task.before_loss = notice
    if "scores" in wish:
        scores = iter(wish["scores"][int(os.environ["RANK"])])
        task.evaluate = lambda model, processes, on_batch: {"top1": next(scores)}
    fit(task, config, out, resume=out / "last.pt" if wish.get("resume") else None)
    leave_processes()

def forked(run):
    child = os.fork()
    if child:
        return child
    try:
        os.environ.update(run["env"])
        train(run["out"], run["wish"])
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(1)

for line in sys.stdin:
    children = [forked(run) for run in json.loads(line)]
    print(json.dumps([os.waitpid(child, 0)[1] for child in children]), flush=True)
"""
#: Four epochs of six updates with 8 of 51 samples each; some samples of an epoch remain unused.
UPDATES = 28  # 51 images are seven updates of 8, the last of them filled from the next pass


def on_one(out, **wish):
    return [{"out": str(out), "env": {}, "wish": wish}]


def on_two(out, port, **wish):
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    envs = [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    return [{"out": str(out), "env": env, "wish": wish} for env in envs]


@pytest.fixture(scope="module")
def launch(tmp_path_factory):
    """Start processes and wait for their success; the argument comes from ``on_one`` or ``on_two``."""
    errors = tmp_path_factory.mktemp("launch") / "errors"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    words = [sys.executable, "-c", SCRIPT, str(Path(__file__).with_name("conftest.py"))]
    with errors.open("w") as stderr:
        launcher = subprocess.Popen(
            words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
        )

    def run(runs):
        launcher.stdin.write(json.dumps(runs) + "\n")
        launcher.stdin.flush()
        answer = launcher.stdout.readline()
        assert answer, errors.read_text()
        assert json.loads(answer) == [0] * len(runs), errors.read_text()

    yield run
    launcher.stdin.close()
    launcher.stdout.close()
    launcher.wait()


def lines(out, name="metrics.jsonl"):
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def assert_same_losses(one, two):
    """Compare the losses of every update and the metrics of every epoch."""
    assert [line["update"] for line in lines(one, "steps.jsonl")] == list(range(1, UPDATES + 1))
    for alone, together in zip(lines(one, "steps.jsonl"), lines(two, "steps.jsonl"), strict=True):
        assert abs(alone["loss"] - together["loss"]) < 1e-5
        assert abs(alone["top1"] - together["top1"]) < 1e-3
    for alone, together in zip(lines(one), lines(two), strict=True):
        assert abs(alone["train_loss"] - together["train_loss"]) < 1e-5
        assert alone["val_top1"] == together["val_top1"]


@pytest.fixture(scope="module")
def alone(launch, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "run"
    launch(on_one(out))
    return out


def test_two_processes_match_a_single_process(alone, launch, tmp_path, unused_port):
    """With gradient accumulation, EMA and clipping."""
    launch(on_two(tmp_path / "two", unused_port))
    assert_same_losses(alone, tmp_path / "two")


def test_a_run_on_one_process_can_be_resumed_on_two_within_an_epoch(alone, launch, tmp_path, unused_port):
    launch(on_one(tmp_path / "cut", notified=0, passes=36))  # four passes per update: in the tenth
    assert read_checkpoint(tmp_path / "cut" / "last.pt")["step"] == 10
    launch(on_two(tmp_path / "cut", unused_port, resume=True))
    assert_same_losses(alone, tmp_path / "cut")


def test_a_signal_to_one_process_stops_all_at_the_same_update(alone, launch, tmp_path, unused_port):
    """Processes synchronise when they log, here every second update; the run is then resumed on one process."""
    launch(
        on_two(tmp_path / "cut", unused_port, notified=1, passes=18, log_every=2)
    )  # two passes per update: in the tenth, the third of the second epoch
    state = read_checkpoint(tmp_path / "cut" / "last.pt")
    assert (state["step"], state["batching"]["processes"]) == (11, 2)
    launch(on_one(tmp_path / "cut", resume=True))
    for one, other in zip(lines(alone), lines(tmp_path / "cut"), strict=True):
        assert abs(one["train_loss"] - other["train_loss"]) < 1e-5
        assert one["val_top1"] == other["val_top1"]


def test_processes_stop_together_without_an_improvement(launch, tmp_path, unused_port):
    """Even if they disagree, here after the second epoch."""
    launch(on_two(tmp_path / "two", unused_port, patience=1, scores=[[1, 2, 3, 4], [1, 1, 3, 4]]))
    assert len(lines(tmp_path / "two")) == 2


def test_sync_batch_norm_without_gpus_is_rejected(points, config, change):
    """PyTorch does not support it on the CPU and would raise an error with a traceback."""
    task = points()
    task.model.insert(1, torch.nn.BatchNorm1d(8))
    together = types.SimpleNamespace(share=Share(0, 2), device=torch.device("cpu"))
    with pytest.raises(FovealError, match="only on GPUs: start one process"):
        adapt(task.model, change(config, sync_bn=True), together)


JOIN = """
import sys
from pathlib import Path
import torch
from foveal.training.processes import leave_processes, start_processes
processes = start_processes()
joined = processes.share.count, torch.distributed.get_backend(), processes.sum({"one": 1.0})["one"]
Path(sys.argv[1], str(processes.share.rank)).write_text(f"{joined}")
leave_processes()
"""


def test_torchrun_works_without_a_gpu(tmp_path):
    (tmp_path / "join.py").write_text(JOIN)
    words = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(tmp_path / "join.py"), str(tmp_path)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-m", *words], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["(2, 'gloo', 2.0)"] * 2


def test_processes_that_did_not_join_raise_an_error(monkeypatch):
    monkeypatch.setattr("accelerate.Accelerator", lambda **settings: types.SimpleNamespace(num_processes=1))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(FovealError, match=r"2 processes were started and 1 joined"):
        start_processes()
