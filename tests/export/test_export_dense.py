"""``foveal export`` of detectors and segmenters: ``foveal predict`` gives the answer of the checkpoint."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from foveal.cli.app import main
from foveal.report.picture_folder import NOTE
from foveal.runtime.session import open_session
from foveal.tasks.detection.predict import predict, to_coco
from foveal.tasks.detection.task import DetectionTask
from foveal.tasks.segmentation.inference import Inference
from support.dense_checkpoints import CLASSES, IDS, detector, photographs, segmenter
from support.exported import as_openvino

LANDSCAPE, PORTRAIT = (40, 60), (96, 64)
LONG = 96  # side that detectors resize the long one of both to
CONVOLUTIONS = "test_convnext"  # of timm; what sizes change in our backbones is tested with classifiers
WINDOWS = Inference(short=64, long=256, window=64, stride=43)
WHOLE = Inference(short=64, long=256, multiple=32)
CLOSE = dict(rel=1e-3, abs=2e-3)  # pixels, or shares of a score: rounding through the network, some 1e-5 of its outputs


def run(*words) -> int:
    with pytest.raises(SystemExit) as leave:
        main([str(word) for word in words])
    return leave.value.code


def export(checkpoint: Path, *words) -> list[Path]:
    """Export to ONNX, and return that file and its form in OpenVINO: tracing twice would take twice as long."""
    path = checkpoint.with_suffix(".onnx")
    assert run("export", "--checkpoint", checkpoint, "--out", path, *words) == 0
    return [path, as_openvino(path, open_session(path).card)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("dense")


@pytest.fixture(scope="module")
def images(folder):
    return photographs(folder, LANDSCAPE, PORTRAIT)


@pytest.fixture(scope="module")
def retinanet(folder):
    return detector(folder / "retinanet.pt")


@pytest.fixture(scope="module")
def square(retinanet):
    """RetinaNet for 96 x 96 pixels, which the larger of the two photographs reaches in either direction."""
    return {path.suffix: path for path in export(retinanet, "--size", LONG)}


def answer(capsys, checkpoint, images, *words):
    capsys.readouterr()
    assert run("predict", *images, "--checkpoint", checkpoint, "--json", *words) == 0
    return json.loads(capsys.readouterr().out)


def assert_same_objects(found, expected, least):
    """Assert that two documents of COCO's format have the same objects in the same order, at least so many."""
    assert (found["images"], found["categories"]) == (expected["images"], expected["categories"])
    assert len(expected["annotations"]) >= least
    for one, other in zip(found["annotations"], expected["annotations"], strict=True):
        assert [one[name] for name in ("id", "image_id", "category_id")] == [
            other[name] for name in ("id", "image_id", "category_id")
        ]
        assert [one["score"], *one["bbox"]] == pytest.approx([other["score"], *other["bbox"]], **CLOSE)


@pytest.mark.parametrize("ending", [".onnx", ".xml"])
def test_a_detector_of_a_fixed_size_pads_images_as_a_batch_does(square, retinanet, images, capsys, ending):
    """The batch of both photographs is padded to 96 x 96."""
    known = DetectionTask.restore(retinanet)
    expected = predict(known.model, CLASSES, images, threshold=0.2, batch_size=2, device=torch.device("cpu"))
    found = answer(capsys, square[ending], images, "--score", 0.2)
    assert_same_objects(found, to_coco(expected, CLASSES, IDS), least=8)


@pytest.mark.parametrize("ending", [".onnx", ".xml"])
def test_pictures_and_documents_are_written_without_a_network_of_pytorch(square, images, tmp_path, monkeypatch, ending):
    def refuse(self, *args, **kwargs):
        raise AssertionError("a module was created")

    monkeypatch.setattr(nn.Module, "__init__", refuse)
    assert run("predict", *images, "--checkpoint", square[ending], "--out", tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [NOTE, "0.png", "1.png", "detections.json"]


def test_a_detector_of_any_size_gives_the_answer_of_the_checkpoint(folder, images, capsys):
    """Its coarsest map has two cells at least, so it takes images from 160 pixels on."""
    checkpoint = detector(folder / "free.pt", backbone=CONVOLUTIONS, short=160, long=224)
    expected = answer(capsys, checkpoint, images, "--score", 0.2)
    for path in export(checkpoint, "--dynamic", "size"):
        assert_same_objects(answer(capsys, path, images, "--score", 0.2), expected, least=8)
        larger = answer(capsys, path, images, "--size", 192, "--score", 0.2)
        assert_same_objects(larger, answer(capsys, checkpoint, images, "--size", 192, "--score", 0.2), least=8)


def assert_same_labels(capsys, path, checkpoint, images, tmp_path):
    """Assert that label maps, shares and pictures are equal, up to a few pixels where two classes are as probable."""
    documents = []
    for number, file in enumerate((path, checkpoint)):
        documents.append(answer(capsys, file, images, "--out", tmp_path / f"{path.suffix}{number}"))
    for one, other in zip(*documents, strict=True):
        maps = [np.asarray(Image.open(document["label_map"])) for document in (one, other)]
        assert maps[0].shape == (other["height"], other["width"])
        assert len(np.unique(maps[1])) > 1
        assert (maps[0] != maps[1]).mean() < 2e-3
        assert [share["name"] for share in one["classes"]] == [share["name"] for share in other["classes"]]
        assert Image.open(one["picture"]).size == Image.open(other["picture"]).size


def test_a_segmenter_with_windows_gives_the_answer_of_the_checkpoint(folder, images, capsys, tmp_path):
    checkpoint = segmenter(folder / "upernet.pt", "upernet", WINDOWS)
    for path in export(checkpoint):
        assert open_session(path).card.input.size == (64, 64)
        assert_same_labels(capsys, path, checkpoint, images, tmp_path)


def test_a_segmenter_of_whole_images_gives_the_answer_of_the_checkpoint(folder, images, capsys, tmp_path):
    """The photographs are seen at 64 x 96 and 96 x 64 pixels."""
    checkpoint = segmenter(folder / "fpn.pt", "semantic_fpn", WHOLE, CONVOLUTIONS)
    for path in export(checkpoint, "--dynamic", "size"):
        assert_same_labels(capsys, path, checkpoint, images, tmp_path)


REFUSED = [
    ("mask_rcnn", [], "mask_rcnn transnext_atto cannot be exported"),
    ("dino", [], "dino transnext_atto cannot be exported"),
    ("retinanet", ["--batch", 2], "A detector is exported for one image per call"),
    ("retinanet", ["--dynamic", "batch"], "A detector is exported for one image per call"),
    ("retinanet", ["--size", 64, 100], "--size must be at least 64 pixels, in multiples of 32, not 64 x 100"),
    ("retinanet", ["--dynamic", "size", "--size", 64], "--size must be at least 160 pixels"),
    ("retinanet", ["--precision", "fp16"], "off by pixels: export the detector with --precision fp32"),
    ("retinanet", ["--features"], "--features is for classifiers, and"),
    ("mask2former", [], "mask2former transnext_atto cannot be exported"),
    ("upernet", ["--size", 96], "sees windows of 64 x 64 pixels: leave --size out, or add --dynamic size"),
]


@pytest.mark.parametrize(("head", "words", "part"), REFUSED)
def test_what_is_not_exported_is_one_sentence_and_no_file(tmp_path, capsys, head, words, part):
    checkpoint = tmp_path / "a.pt"
    if head in ("upernet", "mask2former"):
        segmenter(checkpoint, head, WINDOWS if head == "upernet" else WHOLE)
    else:
        detector(checkpoint, head)
    capsys.readouterr()
    assert run("export", "--checkpoint", checkpoint, "--out", tmp_path / "a.onnx", *words) in (1, 2)
    said = capsys.readouterr()
    assert said.err.startswith("foveal: ")
    assert (said.out, said.err.count("\n"), part in said.err) == ("", 1, True), said.err
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_a_fixed_file_refuses_another_size(square, images, capsys):
    assert run("predict", *images, "--checkpoint", square[".onnx"], "--size", 128) == 1
    assert "runs at 96x96 only: leave --size out" in capsys.readouterr().err
