"""Two processes that train together equal one that trains alone."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from foveal.errors import FovealError
from foveal.training.processes import start_processes

SCRIPT = """
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("points", sys.argv[1])
points = importlib.util.module_from_spec(spec)
spec.loader.exec_module(points)
from foveal.training import TrainConfig, fit
config = TrainConfig(
    epochs=3, batch_size=8, device_batch_size=2, lr=1e-2, warmup_epochs=0, ema_decay=0.9, clip_norm=1.0, workers=0
)
fit(points.PointsTask(points.Points(count=51)), config, Path(sys.argv[2]))
"""


def start(out, rank, count, port):
    env = {**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
    env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "CUDA_VISIBLE_DEVICES": ""}
    if count == 1:
        env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    points = str(Path(__file__).with_name("conftest.py"))
    return subprocess.Popen([sys.executable, "-c", SCRIPT, points, str(out)], env=env, stderr=subprocess.PIPE)


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_learn_the_same_as_one(tmp_path, unused_port):
    """With accumulation, moving average and clipping; of 51 samples an epoch leaves some over."""
    runs = [start(tmp_path / "one", 0, 1, 0), *(start(tmp_path / "two", rank, 2, unused_port) for rank in range(2))]
    for run in runs:
        _, error = run.communicate(timeout=120)
        assert run.returncode == 0, error.decode()
    one, two = lines(tmp_path / "one"), lines(tmp_path / "two")
    assert len(one) == len(two) == 3
    for alone, together in zip(one, two, strict=True):
        assert abs(alone["train_loss"] - together["train_loss"]) < 1e-5
        assert abs(alone["train_top1"] - together["train_top1"]) < 1e-3
        assert alone["val_top1"] == together["val_top1"]


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


def test_torchrun_without_a_gpu_joins_its_processes(tmp_path):
    (tmp_path / "join.py").write_text(JOIN)
    words = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(tmp_path / "join.py"), str(tmp_path)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-m", *words], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["(2, 'gloo', 2.0)"] * 2


def test_processes_that_did_not_join_are_refused(monkeypatch):
    monkeypatch.setattr("accelerate.Accelerator", lambda **settings: types.SimpleNamespace(num_processes=1))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(FovealError, match=r"2 processes were started and 1 joined"):
        start_processes()
