"""``foveal predict`` with detectors and segmenters: folders of pictures, run again and again."""

import json

import numpy as np
import pytest
from PIL import Image

from foveal.report.draw_legend import class_colours
from foveal.report.picture_folder import NOTE
from foveal.tasks.segmentation.inference import Inference
from support.dense_checkpoints import CLASSES, detector, photographs, segmenter

SIZES = [(40, 60), (96, 64), (50, 50)]
BROKEN = "1_broken.png"


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    inference = Inference(short=64, long=256, multiple=32)
    return {
        "detector": detector(folder / "detector.pt"),
        "segmenter": segmenter(folder / "segmenter.pt", "semantic_fpn", inference),
    }


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Three photographs and a broken one in photos/."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    photographs(tmp_path / "photos", *SIZES)
    (tmp_path / "photos" / BROKEN).write_bytes(b"broken")
    return tmp_path / "photos"


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != NOTE)


PICTURES = {
    "detector": ["0.png", "1.png", "2.png", "detections.json"],
    "segmenter": [*sorted(f"{n}{end}" for n in range(3) for end in (".png", "_labels.png")), "label_maps.json"],
}


@pytest.mark.parametrize("kind", PICTURES)
def test_broken_images_are_reported_and_all_others_drawn(foveal, photos, networks, tmp_path, kind):
    said = foveal("predict", "photos", "--checkpoint", networks[kind], "--out", "out")
    assert said.code == 1
    first, summary = said.error.splitlines()
    assert first.startswith(f"foveal: photos/{BROKEN} is not a readable image")
    assert summary == "foveal: 1 of 4 images could not be read."
    assert names(tmp_path / "out") == PICTURES[kind]
    shown = [line for line in said.out.splitlines() if " -> " in line]
    assert [line.split(" -> ")[0] for line in shown] == [f"photos/{number}.png" for number in range(3)]


@pytest.mark.parametrize("kind", PICTURES)
def test_a_second_run_leaves_no_picture_of_the_first(foveal, photos, networks, tmp_path, kind):
    words = ["--checkpoint", networks[kind], "--out", "out"]
    assert foveal("predict", "photos/0.png", "photos/1.png", *words).code == 0
    (tmp_path / "out" / "mine.png").write_bytes(b"mine")
    assert foveal("predict", "photos/2.png", *words).code == 0
    assert names(tmp_path / "out") == [name for name in PICTURES[kind] if name[0] not in "01"] + ["mine.png"]


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_written_among_the_photographs_are_not_predicted_on(foveal, photos, networks, kind):
    (photos / BROKEN).unlink()
    words = ["predict", "photos", "--checkpoint", networks[kind], "--out", "photos"]
    first, files = foveal(*words), names(photos)
    assert (first.code, len(first.out.split(" -> "))) == (0, 4)
    assert foveal(*words).out == first.out
    assert names(photos) == files


def test_pictures_of_a_detector_have_the_size_of_the_photograph(foveal, photos, networks, tmp_path):
    assert foveal("predict", "photos", "--checkpoint", networks["detector"], "--out", "out", "--score", 0).code == 1
    assert [Image.open(tmp_path / "out" / f"{n}.png").size for n in range(3)] == [(w, h) for h, w in SIZES]


def test_pictures_of_a_segmenter_show_the_photograph_in_its_size(foveal, photos, networks, tmp_path):
    """Where all is one colour, which tints the photograph, its brightness is seen through it at every pixel."""
    assert foveal("predict", "photos", "--checkpoint", networks["segmenter"], "--out", "out").code == 1
    for number, (height, width) in enumerate(SIZES):
        drawn, before = Image.open(f"out/{number}.png"), Image.open(f"photos/{number}.png")
        assert drawn.width >= width
        assert drawn.height >= height
        labels = np.asarray(Image.open(f"out/{number}_labels.png"))
        label = np.bincount(labels.ravel()).argmax()
        inside = np.asarray(drawn.convert("RGB"), float)[:height, :width][labels == label]
        grey = np.asarray(before.convert("RGB"), float)[labels == label] @ [0.299, 0.587, 0.114]
        expected = 0.45 * grey[:, None] + 0.55 * class_colours(CLASSES)[label]
        assert np.median(np.abs(inside - expected)) <= 1


def test_label_maps_are_shown_in_the_colours_of_the_pictures_and_read_as_indices(foveal, photos, networks, tmp_path):
    assert foveal("predict", "photos/0.png", "--checkpoint", networks["segmenter"], "--out", "out").code == 0
    colours = class_colours(CLASSES)
    with Image.open(tmp_path / "out" / "0_labels.png") as labels:
        assert labels.mode == "P"
        indices, shown = np.asarray(labels), np.asarray(labels.convert("RGB"))
    assert indices.shape == SIZES[0]
    assert np.array_equal(shown, colours[indices])
    (answer,) = json.loads((tmp_path / "out" / "label_maps.json").read_text())
    assert {row["label"]: row["share"] for row in answer["classes"]} == {
        int(label): (indices == label).mean() for label in np.unique(indices)
    }


def test_a_document_on_the_screen_is_that_of_the_folder(foveal, photos, networks, tmp_path):
    for kind, name in (("detector", "detections.json"), ("segmenter", "label_maps.json")):
        said = foveal("predict", "photos", "--checkpoint", networks[kind], "--out", kind, "--json")
        document = json.loads(said.out)
        assert document == json.loads((tmp_path / kind / name).read_text())
        found = document["images"] if kind == "detector" else document
        assert len(found) == 3


@pytest.mark.parametrize("kind", PICTURES)
def test_frames_are_drawn_under_their_numbers(foveal, photos, networks, tmp_path, monkeypatch, kind):
    (tmp_path / "clip.mp4").write_bytes(b"read by the stub")
    frames = [(number, Image.open("photos/0.png").convert("RGB")) for number in (0, 12)]
    monkeypatch.setattr("foveal.tasks.video.find_spec", lambda name: object())
    monkeypatch.setattr("foveal.tasks.video.read_frames", lambda path, every: iter(frames))
    assert foveal("predict", "clip.mp4", "--checkpoint", networks[kind], "--out", "out").code == 0
    assert {"clip_000000.png", "clip_000012.png"} <= set(names(tmp_path / "out"))


def test_a_folder_must_not_have_the_name_of_a_file(foveal, photos, networks, tmp_path):
    for kind in PICTURES:
        said = foveal("predict", "photos", "--checkpoint", networks[kind], "--out", "out.csv")
        assert said.code == 2
        assert said.is_one_sentence(f"--out is a folder for a {kind}, and out.csv is the name of a file")
    assert not (tmp_path / "out.csv").exists()
