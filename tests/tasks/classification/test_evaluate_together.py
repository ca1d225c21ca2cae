"""Several processes evaluate as one does: every image once, answers in order, one process that speaks."""

import json
import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
import timm
import torch

from foveal.tasks.classification.data import open_split
from foveal.tasks.classification.evaluate import Inference, _in_order, evaluate, score
from foveal.tasks.classification.network import restore
from foveal.training.checkpoint import save_atomically
from foveal.training.loading import Share

SCRIPT = """
import sys
from pathlib import Path
import torch
from foveal.cli.evaluate import main
from foveal.tasks.classification.evaluate import evaluate
from foveal.tasks.classification.network import restore
from foveal.training.processes import start_processes
weights, data, out = map(Path, sys.argv[1:])
processes = start_processes()
found = evaluate(restore(weights), data, batch_size=2, workers=0, processes=processes)
torch.save([found.probabilities, found.targets, found.paths, found.top1], out / f"{processes.share.rank}.pt")
words = dict(checkpoint=weights, data=data, batch_size=2, workers=0, out=out / "results", json=True)
main("finetune.test_convnext", size=(32, 48), **words)
"""


@pytest.fixture
def weights(tmp_path):
    """A checkpoint of an untrained network for the classes of ``pets``."""
    torch.manual_seed(0)
    fit = {"size": (32, 32), "crop": 1.0}
    card = {"model": "test_convnext", "model_args": {}, "classes": ["cat", "dog", "eel"], "preprocessing": fit}
    model = timm.create_model("test_convnext", num_classes=3)
    save_atomically({"model": model.state_dict(), "card": card, "format": 1}, tmp_path / "best.pt")
    return tmp_path / "best.pt"


@pytest.fixture
def unused_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_processes_evaluate_as_one(pets, images, weights, tmp_path, unused_port):
    images(pets / "val", {"cat": 5, "dog": 3, "eel": 3}, seed=9)  # 11 images: one process has 6 of them, one 5
    env = {**os.environ, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(unused_port)}
    words = [sys.executable, "-c", SCRIPT, str(weights), str(pets), str(tmp_path)]
    runs = [
        subprocess.Popen(
            words, env=env | {"RANK": rank, "LOCAL_RANK": rank}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for rank in "01"
    ]
    said = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    alone = evaluate(restore(weights), pets, batch_size=4, workers=0, device=torch.device("cpu"))
    for rank in "01":
        probabilities, targets, paths, top1 = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(probabilities, alone.probabilities)
        assert (targets.tolist(), paths, top1) == (alone.targets.tolist(), alone.paths, alone.top1)
    assert said[1][0] == b""
    document = json.loads(said[0][0])
    assert [result["images"] for result in document["results"]] == [11, 11]
    assert document["results"][0]["top1"] == alone.top1
    assert document["results"][0]["loss"] == pytest.approx(alone.loss, rel=1e-5)
    assert json.loads((tmp_path / "results" / "results.json").read_text()) == document


@pytest.mark.parametrize("count", range(1, 8))
@pytest.mark.parametrize("processes", range(1, 5))
def test_gathered_rows_are_in_the_order_of_the_images(count, processes):
    """Also where some processes have no image at all."""
    whole = torch.arange(3 * count).view(count, 3)
    shares = [whole[rank::processes] for rank in range(processes)]
    padded = []

    def gather(rows):
        padded.append(rows)
        return torch.cat([torch.cat([one, one.new_full((len(rows) - len(one), 3), -1)]) for one in shares])

    together = SimpleNamespace(
        share=Share(0, processes), device=torch.device("cpu"), accelerator=SimpleNamespace(gather=gather)
    )
    assert torch.equal(_in_order(shares[0], count, together), whole)
    assert len(padded[0]) == -(-count // processes)


def test_counting_agrees_with_keeping_every_answer(pets, weights):
    classifier = restore(weights)
    kept = evaluate(classifier, pets, batch_size=4, workers=0)
    counted = score(
        classifier, open_split(pets, "val", classifier.fit.transform()), inference=Inference(batch_size=2, workers=0)
    )
    assert (counted.images, counted.top1, counted.top5) == (9, kept.top1, kept.top5)
    assert counted.loss == pytest.approx(kept.loss, rel=1e-5)
