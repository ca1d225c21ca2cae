"""A real model on real files, killed in the middle of an epoch, resumes to an identical result."""

import json
import os
import signal
import subprocess
import sys

import torch

from foveal.training.checkpoint import read_checkpoint

#: The paper's recipe: drop path, mixup, CutMix, erasing, repeated augmentation, clipping, bf16; 13 epochs of 3 updates.
WORDS = [
    *("train", "imagenet.transnext_micro", "--model", "transnext_atto", "--size", "32", "--batch-size", "8"),
    *("--epochs", "3", "--warmup-epochs", "1", "--workers", "1", "--save-steps", "1"),
]


def start(colours, out, *more):
    command = [sys.executable, "-m", "foveal.cli", *WORDS, "--data", str(colours), "--out", str(out), *more]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def losses(out):
    lines = [json.loads(line) for line in (out / "steps.jsonl").read_text().splitlines()]
    return [(line["update"], line["loss"], line["lr"]) for line in lines]


def test_a_killed_and_resumed_run_matches_an_uninterrupted_run_exactly(colours, tmp_path):
    straight = start(colours, tmp_path / "straight")
    cut = start(colours, tmp_path / "cut")
    for line in cut.stderr:
        if line.startswith("saved at update 2/3 of epoch 4"):
            break
    cut.send_signal(signal.SIGKILL)
    cut.communicate()
    step = read_checkpoint(tmp_path / "cut" / "last.pt")["step"]
    assert 11 <= step < 39
    resumed = start(colours, tmp_path / "cut", "--resume")
    for run in (straight, resumed):
        _, error = run.communicate(timeout=200)
        assert run.returncode == 0, error
    one, other = (read_checkpoint(tmp_path / name / "last.pt") for name in ("straight", "cut"))
    assert one["step"] == other["step"] == 39
    for name, value in one["model"].items():
        assert torch.equal(value, other["model"][name]), name
    assert losses(tmp_path / "straight") == losses(tmp_path / "cut")
    assert len(losses(tmp_path / "cut")) == 13  # logged once per epoch: three updates each, and log_every is 10
