"""Training and evaluating a detector on two processes compared with a single process."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from foveal.tasks.detection.data import Augmentation
from foveal.tasks.detection.evaluate import evaluate_detector
from foveal.tasks.recipes import create_task
from foveal.training import fit
from foveal.training.batching import Share
from foveal.training.loading import evaluation_loader
from foveal.training.processes import start_processes
from support.coco_folders import annotation, write_split
from support.detections import KnownAnswers, MadeImages, collate
from support.detectors import small_recipe

# All candidates are used, so that nothing is sampled; images keep their size.
PLAIN = Augmentation(short=(), flip=0.0)
EVERYTHING = dict(anchor_samples=100_000, box_samples=1000)
SCRIPT = """
import sys
from pathlib import Path
from foveal.training.processes import leave_processes
from test_detection_processes import evaluate_known, run
for name in ("retinanet", "mask_rcnn", "dino"):
    run(name, 1, Path(sys.argv[1]), Path(sys.argv[2]) / name)
evaluate_known(Path(sys.argv[2]))
leave_processes()
"""


def run(name, device_batch, data, out):
    """Run three updates of two images each, and an evaluation."""
    recipe = small_recipe(name, "transnext_atto", epochs=1, device_batch_size=device_batch)
    options = {**recipe.options, **(EVERYTHING if name == "mask_rcnn" else {})}
    recipe = replace(recipe, options=options, augment=PLAIN)
    fit(create_task(recipe, data), recipe.train, out)


def evaluated(folder, share, processes=None):
    """The evaluation of known answers on 24 images, two of them broken, one of them in each process's share."""
    images = MadeImages(folder, broken=(0, 5))
    loader = evaluation_loader(images, 2, share, 0, collate, "skip")
    device = None if processes else torch.device("cpu")
    found = evaluate_detector(KnownAnswers(images), loader, images, processes, device)
    return [found.metrics, found.mask.classes, found.images, found.broken, [one.image_id for one in found.results]]


def evaluate_known(out):
    """Each process keeps what its evaluation returned."""
    processes = start_processes()
    torch.save(evaluated(out, processes.share, processes), out / f"{processes.share.rank}.pt")


def lines(out, name="steps.jsonl"):
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images of equal size, so that there is no padding, with zero to two objects."""
    boxes = [(4, 5, 30, 28), (20, 16, 36, 40), (2, 2, 50, 20), (10, 30, 20, 24), (30, 8, 24, 44)]
    objects = [annotation(n, image=(1, 1, 2, 3, 5)[n - 1], box=box) for n, box in enumerate(boxes, 1)]
    folder = write_split(tmp_path_factory.mktemp("coco"), "train", objects, [(64, 64)] * 6)
    return write_split(folder, "val", objects[:4], [(64, 64)] * 3)


@pytest.fixture(scope="module")
def together(data, tmp_path_factory):
    """The folder of the runs and of the evaluation on two processes with one image each.

    All tests share the pair of processes: starting it takes longer than its work.
    """
    out = tmp_path_factory.mktemp("together")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tests = Path(__file__).parents[2]
    path = os.pathsep.join([*sys.path, str(Path(__file__).parent), str(tests)])
    env = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    env |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}
    words = [sys.executable, "-c", SCRIPT, str(data), str(out)]
    runs = [
        subprocess.Popen(words, env={**env, "RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE) for rank in "01"
    ]
    for one in runs:
        _, error = one.communicate(timeout=200)
        assert one.returncode == 0, error.decode()
    return out


@pytest.mark.parametrize("name", ["retinanet", "mask_rcnn"])
def test_two_processes_train_like_one_with_the_same_batches(name, data, together, tmp_path):
    """One image at a time: two accumulated passes on one process, one pass on each of two."""
    run(name, 1, data, tmp_path)
    for alone, shared in zip(lines(tmp_path), lines(together / name), strict=True):
        for loss in set(alone) - {"time", "images_per_second", "data_wait_seconds", "memory_bytes"}:
            assert shared[loss] == pytest.approx(alone[loss], rel=1e-4, abs=1e-6), loss
    (alone,), (shared,) = lines(tmp_path, "metrics.jsonl"), lines(together / name, "metrics.jsonl")
    for metric in (name for name in alone if name.startswith("val_")):
        assert shared[metric] == pytest.approx(alone[metric], abs=1e-6), metric


def test_dino_losses_are_divided_by_the_objects_of_all_processes(data, together, tmp_path):
    """Two processes with one image each match one process with both, except for the denoising noise."""
    run("dino", 2, data, tmp_path)
    alone, shared = lines(tmp_path)[0], lines(together / "dino")[0]
    for loss in ("class", "l1", "giou", "auxiliary", "encoder"):
        assert shared[loss] == pytest.approx(alone[loss], rel=1e-4), loss
    assert shared["denoising"] != pytest.approx(alone["denoising"], rel=1e-4)


def test_two_processes_evaluate_as_one(together, tmp_path):
    """Only the main process keeps the results of each image."""
    alone = evaluated(tmp_path, Share())
    assert alone[2:4] == [22, ["0.png", "5.png"]]
    assert torch.load(together / "0.pt") == alone
    assert torch.load(together / "1.pt") == [*alone[:4], []]
