"""Every readable image and every labelled pixel counts once, on any number of processes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from foveal.errors import FovealError
from foveal.tasks.segmentation.evaluate import evaluate_segmenter
from foveal.tasks.segmentation.inference import Inference
from foveal.tasks.segmentation.metrics import ConfusionMatrix
from foveal.tasks.segmentation.segmenter import IGNORED
from foveal.training.batching import Share
from foveal.training.loading import evaluation_loader
from support.segmenters import CLASSES, KnownScores, MadeLabelMaps, by_red

CPU, OWN_SIZE = torch.device("cpu"), Inference(short=None, long=1000)
SCRIPT = """
import sys
from pathlib import Path
import torch
from foveal.tasks.segmentation.evaluate import evaluate_segmenter
from foveal.tasks.segmentation.inference import Inference
from foveal.training.loading import evaluation_loader
from foveal.training.processes import leave_processes, start_processes
from support.segmenters import CLASSES, MadeLabelMaps, by_red
processes = start_processes()
loader = evaluation_loader(MadeLabelMaps(broken=(1, 4)), 1, processes.share, 0, broken="skip")
model, inference = by_red(), Inference(short=None, long=1000)
found = evaluate_segmenter(model, loader, CLASSES, inference, processes)
whole = model.answer
model.answer = lambda images: whole(images) * (float("nan") if processes.is_main else 1)
sentence = ""
try:
    evaluate_segmenter(model, loader, CLASSES, inference, processes)
except Exception as error:
    sentence = f"{type(error).__name__}: {error}"
kept = [found.document, sentence]
torch.save(kept, Path(sys.argv[1]) / f"{processes.share.rank}.pt")
leave_processes()
"""


def evaluated(images, model=None, broken="stop", inference=OWN_SIZE, **options):
    loader = evaluation_loader(images, 1, Share(), 0, broken=broken)
    return evaluate_segmenter(model or by_red(), loader, CLASSES, inference, device=CPU, **options)


def by_hand(images, numbers):
    """The scores of the predictions of ``by_red`` for these images."""
    confusion = ConfusionMatrix(len(CLASSES))
    for number in numbers:
        confusion.add(images.answers(number), images.items[number][1])
    return confusion.scores()


def without_speed(document):
    return {name: value for name, value in document.items() if name != "images_per_second"}


def test_a_dataset_is_compared_with_its_labels():
    images, steps = MadeLabelMaps(), []
    evaluation = evaluated(images, on_batch=lambda *at: steps.append(at))
    assert evaluation.scores == by_hand(images, range(5))
    assert (evaluation.images, evaluation.broken, evaluation.classes) == (5, [], CLASSES)
    assert steps == [(done, 5) for done in range(1, 6)]
    labelled = sum(int((labels != IGNORED).sum()) for _, labels in images.items)
    assert sum(evaluation.scores.pixels) == labelled
    assert evaluation.counts.sum(1).tolist() == evaluation.scores.pixels


def test_results_per_class_have_plain_types():
    """Doors are predicted but do not occur; lamps neither occur nor are predicted."""
    evaluation = evaluated(MadeLabelMaps())
    document = json.loads(json.dumps(evaluation.document))
    assert {name: document[name] for name in ("miou", "macc", "aacc")} == evaluation.metrics
    assert [row["name"] for row in document["classes"]] == CLASSES
    assert document["classes"][3] == {"name": "door", "iou": 0, "accuracy": None, "pixels": 0}
    assert document["classes"][4] == {"name": "lamp", "iou": None, "accuracy": None, "pixels": 0}
    assert document["miou"] == pytest.approx(sum(row["iou"] for row in document["classes"][:4]) / 4)
    assert document["macc"] == pytest.approx(sum(row["accuracy"] for row in document["classes"][:3]) / 3)
    assert (document["images"], document["broken"], document["broken_names"]) == (5, 0, [])
    assert document["images_per_second"] > 0


def test_images_are_resized_for_inference_and_scored_in_their_original_size():
    """An image of a single class is predicted perfectly at any size; the model gets the fitted sizes."""
    images, seen, model = MadeLabelMaps(), [], by_red()
    images.items = [(torch.full((3, 10, 20), 0.4), torch.full((10, 20), 2))]
    answer = model.answer

    def noting(batch):
        seen.append(tuple(batch.shape))
        return answer(batch)

    model.answer = noting
    evaluation = evaluated(images, model, inference=Inference(short=20, long=100, flip=True))
    assert evaluation.scores.pixels == [0, 0, 200, 0, 0]
    assert evaluation.metrics == {"miou": 100, "macc": 100, "aacc": 100}
    assert seen == [(1, 3, 20, 40)] * 2


def test_unreadable_images_do_not_count():
    images = MadeLabelMaps(broken=(0, 3))
    evaluation = evaluated(images, broken="skip")
    assert (evaluation.images, evaluation.broken) == (3, ["0.png", "3.png"])
    assert evaluation.scores == by_hand(images, (1, 2, 4))
    with pytest.raises(FovealError, match=r"0\.png is not a readable image"):
        evaluated(images)


def test_a_second_evaluation_with_the_same_loader_gives_the_same_results():
    loader = evaluation_loader(MadeLabelMaps(broken=(3,)), 1, Share(), 0, broken="skip")
    one, two = (evaluate_segmenter(by_red(), loader, CLASSES, OWN_SIZE, device=CPU) for _ in range(2))
    assert without_speed(one.document) == without_speed(two.document)
    assert (two.images, two.broken) == (4, ["3.png"])


def test_two_processes_give_the_results_of_one(tmp_path):
    """Five images with one broken image on each process. NaN scores on one process are reported by both."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tests = str(Path(__file__).parents[2])
    env = {**os.environ, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    env["PYTHONPATH"] = os.pathsep.join([tests, *filter(None, [os.environ.get("PYTHONPATH")])])
    runs = []
    for rank in "01":
        words = [sys.executable, "-c", SCRIPT, str(tmp_path)]
        runs.append(subprocess.Popen(words, env=env | {"RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE))
    errors = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    alone = without_speed(evaluated(MadeLabelMaps(broken=(1, 4)), broken="skip").document)
    for rank in (0, 1):
        document, sentence = torch.load(tmp_path / f"{rank}.pt")
        assert without_speed(document) == alone
        assert sentence.startswith("FovealError: The segmenter's scores are NaN")


def test_a_dataset_without_readable_images_is_rejected():
    with pytest.raises(FovealError, match=r"None of the images can be read \(the first is 0.png\): check --data"):
        evaluated(MadeLabelMaps(broken=tuple(range(5))), broken="skip")


def test_a_dataset_without_labelled_pixels_is_rejected():
    images = MadeLabelMaps()
    images.items = [(image, torch.full_like(labels, IGNORED)) for image, labels in images.items]
    with pytest.raises(FovealError, match="All pixels of the images are ignored"):
        evaluated(images)


def test_nan_scores_are_rejected():
    broken = KnownScores(lambda images: torch.full_like(images[:, :1], float("nan")).expand(-1, 5, -1, -1), 5)
    with pytest.raises(FovealError, match="scores are NaN: its weights are broken, use others"):
        evaluated(MadeLabelMaps(), broken)


def test_a_wrong_number_of_classes_is_rejected():
    with pytest.raises(FovealError, match="The segmenter has 2 classes and the images have 5"):
        evaluated(MadeLabelMaps(), KnownScores(lambda images: images[:, :2], 2))
