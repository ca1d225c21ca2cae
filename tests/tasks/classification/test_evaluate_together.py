"""Distributed evaluation: every image once, outputs in order, and only one process prints."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch

from foveal.errors import FovealError
from foveal.tasks.classification.data import open_split
from foveal.tasks.classification.evaluate import EvaluationSettings, evaluate, score, together_in_order
from foveal.tasks.classification.network import restore
from foveal.training.batching import Share
from foveal.training.checkpoint import save_checkpoint

SCRIPT = """
import sys
from pathlib import Path
import torch
from foveal.cli.commands.evaluate import main
from foveal.cli.options import EvaluateOptions
from foveal.tasks.classification.evaluate import evaluate
from foveal.tasks.classification.network import restore
from foveal.training.processes import start_processes
weights, data, out = map(Path, sys.argv[1:])
processes = start_processes()
found = evaluate(restore(weights), data, batch_size=2, workers=0, processes=processes, broken="skip")
torch.save([found.probabilities, found.targets, found.paths, found.top1], out / f"{processes.share.rank}.pt")
words = dict(checkpoint=weights, data=data, batch_size=2, workers=0, out=out / "results", json=True, broken="skip")
main(EvaluateOptions(size=(32, 48), **words), "finetune.test_convnext")
"""


@pytest.fixture
def weights(tmp_path):
    """A checkpoint of an untrained model for the classes of ``pets``."""
    torch.manual_seed(0)
    fit = {"size": (32, 32), "crop": 1.0}
    card = {"model": "test_convnext", "model_args": {}, "classes": ["cat", "dog", "eel"], "preprocessing": fit}
    model = timm.create_model("test_convnext", num_classes=3)
    save_checkpoint({"model": model.state_dict(), "card": card, "format": 1}, tmp_path / "best.pt")
    return tmp_path / "best.pt"


@pytest.fixture
def unused_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_processes_give_the_results_of_one(pets, images, weights, tmp_path, unused_port):
    images(pets / "val", {"cat": 5, "dog": 3, "eel": 4}, seed=9)  # 12 images; each process has a broken one
    broken = [pets / "val" / "cat" / f"{number}.png" for number in (0, 1)]
    for file in broken:
        file.write_bytes(b"no image")
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
    alone = evaluate(restore(weights), pets, batch_size=4, workers=0, device=torch.device("cpu"), broken="skip")
    for rank in "01":
        probabilities, targets, paths, top1 = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(probabilities, alone.probabilities)
        assert (targets.tolist(), paths, top1) == (alone.targets.tolist(), alone.paths, alone.top1)
    assert said[1][0] == b""
    document = json.loads(said[0][0])
    assert [result["images"] for result in document["results"]] == [10, 10]
    assert [result["broken_names"] for result in document["results"]] == [[str(file) for file in broken]] * 2
    assert document["results"][0]["top1"] == alone.top1
    assert document["results"][0]["loss"] == pytest.approx(alone.loss, rel=1e-5)
    assert json.loads((tmp_path / "results" / "results.json").read_text()) == document


@pytest.mark.parametrize("missing", [(), (2,), (0, 3)])
@pytest.mark.parametrize("processes", range(2, 5))
@pytest.mark.parametrize("count", [1, 4, 7])
def test_gathered_rows_are_in_image_order(count, processes, missing):
    """Also with skipped images, and with processes that have no images."""
    shares = [[i for i in range(rank, count, processes) if i not in missing] for rank in range(processes)]
    longest = max(map(len, shares))

    def gather_rows(rows, padding):  # image i has logits (10 i, 10 i + 1) and class 100 i
        makers = {2: lambda i: [10.0 * i, 10.0 * i + 1], 1: lambda i: i if rows is own[0] else 100 * i}
        parts = [
            torch.tensor([makers[rows.ndim](i) for i in share]).view(len(share), *rows.shape[1:]) for share in shares
        ]
        filled = [torch.cat([p, torch.full((longest - len(p), *p.shape[1:]), padding)]) for p in parts]
        return torch.cat(filled).to(rows.dtype)

    mine = torch.tensor(shares[0], dtype=torch.int64)
    own = [mine, torch.stack([10.0 * mine, 10.0 * mine + 1], 1), 100 * mine]
    together = SimpleNamespace(share=Share(0, processes), gather_rows=gather_rows)
    indices, logits, targets = together_in_order(own, together)
    expected = [i for i in range(count) if i not in missing]
    assert indices.tolist() == expected
    assert logits.tolist() == [[10.0 * i, 10.0 * i + 1] for i in expected]
    assert targets.tolist() == [100 * i for i in expected]


@pytest.mark.parametrize("at", [0, 4, 8])
def test_a_broken_image_is_excluded_from_results_and_counts_on_request(pets, weights, at):
    classifier = restore(weights)
    whole = evaluate(classifier, pets, batch_size=4, workers=0)
    Path(whole.paths[at]).write_bytes(b"no image")
    kept = evaluate(classifier, pets, batch_size=4, workers=0, broken="skip")
    left = [i for i in range(len(whole.paths)) if i != at]
    assert kept.paths == [whole.paths[i] for i in left]
    torch.testing.assert_close(kept.probabilities, whole.probabilities[left])
    assert kept.targets.tolist() == whole.targets[left].tolist()
    images = open_split(pets, "val", classifier.fit.transform())
    counted = score(classifier, images, settings=EvaluationSettings(batch_size=2, workers=0, broken="skip"))
    assert (counted.images, counted.broken) == (8, 1)
    assert counted.top1 == kept.top1
    with pytest.raises(FovealError, match="is not a readable image"):
        evaluate(classifier, pets, batch_size=4, workers=0)


def test_score_agrees_with_evaluate(pets, weights):
    classifier = restore(weights)
    kept = evaluate(classifier, pets, batch_size=4, workers=0)
    counted = score(
        classifier,
        open_split(pets, "val", classifier.fit.transform()),
        settings=EvaluationSettings(batch_size=2, workers=0),
    )
    assert (counted.images, counted.accuracies()) == (9, kept.accuracies())
    assert counted.loss == pytest.approx(kept.loss, rel=1e-5)
