"""SIGKILL two hundred times at random: no announced checkpoint is lost.

The run is forked from a warm process for each kill, because starting Python and PyTorch two hundred times takes ten
minutes.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from foveal.training import fit
from foveal.training.checkpoint import read_checkpoint
from foveal.training.listener import Listener

KILLS = 200

SCRIPT = """
import importlib.util, json, os, random, signal, sys, time
from pathlib import Path
import accelerate, torch
from foveal.training import fit
from foveal.training.checkpoint import read_checkpoint
from foveal.training.listener import Listener

spec = importlib.util.spec_from_file_location("points", sys.argv[1])
points = importlib.util.module_from_spec(spec)
spec.loader.exec_module(points)
kills, out, draw = int(sys.argv[2]), Path(sys.argv[3]), random.Random(0)
last, announced = out / "last.pt", out.parent / "announced"

class Announce(Listener):
    def saved(self, update, path):
        with announced.open("a") as file:
            file.write(f"{update}\\n")

def train():
    torch.set_num_threads(1)
    fit(points.long_run(), points.LONG, out, listener=Announce(), resume=last if last.exists() else None)

def check():
    said = int(announced.read_text().split()[-1]) if announced.exists() else 0
    step = read_checkpoint(last)["step"] if last.exists() else 0
    assert step >= said, f"saved {step}, announced {said}"
    return step, (out / ".last.pt.part").exists()

def start():
    child = os.fork()
    if child == 0:
        train()
        os._exit(1)  # a run that ended was not killed
    return child

def kill(child):
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, "the run ended by itself"

def first_saves():
    "Seconds from the start of a run to its third save: kills come within them, on a slow machine as well."
    began, child = time.monotonic(), start()
    while not announced.exists() or len(announced.read_text().split()) < 3:
        time.sleep(0.01)
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the run ended by itself"
    kill(child)
    return time.monotonic() - began

steps, halves, window = [], 0, max(first_saves(), 0.4)
for number in range(kills):
    child = start()
    time.sleep(draw.uniform(0.0, window))
    kill(child)
    step, half = check()
    steps.append(step)
    halves += half
print(json.dumps({"steps": steps, "halves": halves}))
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of a run killed repeatedly, the step after each kill, and how many kills happened during a save."""
    folder = tmp_path_factory.mktemp("kills")
    points = str(Path(__file__).with_name("conftest.py"))
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    words = [sys.executable, "-c", SCRIPT, points, str(KILLS), str(folder / "run")]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    return folder / "run", said["steps"], said["halves"]


def test_the_last_checkpoint_is_never_older_than_announced(killed):
    """The script checks this after each kill; the assertions here check that the kills were at relevant times."""
    _, steps, halves = killed
    assert len(steps) == KILLS
    assert steps == sorted(steps)
    assert len(set(steps)) > KILLS / 4  # many runs made progress before they were killed
    assert halves > KILLS / 20  # many were killed during a save


class Leave(Listener):
    def __init__(self, last):
        self.last = last

    def saved(self, update, path):
        if update == self.last:
            raise KeyboardInterrupt


def test_the_weights_after_all_kills_match_an_uninterrupted_run(killed, long_run, tmp_path):
    folder, steps, _ = killed
    make, config = long_run
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(make(), config, tmp_path / "straight", listener=Leave(steps[-1]))
    finally:
        torch.set_num_threads(threads)
    straight, survivor = (read_checkpoint(run / "last.pt") for run in (tmp_path / "straight", folder))
    assert straight["step"] == survivor["step"] == steps[-1]
    for name, value in straight["model"].items():
        assert torch.equal(value, survivor["model"][name]), name
