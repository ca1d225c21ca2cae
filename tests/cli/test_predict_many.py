"""``foveal predict`` with many inputs: folders, lists, broken files, files of answers, features."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from foveal.cli import predict_run
from foveal.models.folded import optimize
from foveal.tasks.classification.network import restore
from support.exported import card, linear_logits, write_linear
from support.nets import SHALLOW, lively, shrunk

CLASSES = ["ant", "bee", "cat"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small TransNeXt with weights that depend on the image, as `foveal train` saves it."""
    torch.manual_seed(0)
    net = lively(shrunk("transnext_atto", num_classes=3))
    about = {"task": "classification", "model": "transnext_atto", "model_args": {"depths": SHALLOW}, "classes": CLASSES}
    path = tmp_path_factory.mktemp("checkpoint") / "best.pt"
    torch.save({"model": net.state_dict(), "card": {**about, "preprocessing": {"size": (32, 32)}}}, path)
    return path


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Twenty images in photos/, every tenth of which is broken, numbers 3 and 13."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(20):
        Image.fromarray(draw.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(f"photos/{number:02}.png")
        if number % 10 == 3:
            (tmp_path / f"photos/{number:02}.png").write_bytes(b"broken")
    return tmp_path / "photos"


GOOD = [f"photos/{number:02}.png" for number in range(20) if number % 10 != 3]
EXPORTED = [".onnx", ".xml"]


@pytest.fixture
def network(request, tmp_path):
    """The checkpoint, or an exported file."""
    if request.param == ".pt":
        return request.getfixturevalue("checkpoint")
    return write_linear(tmp_path / f"linear{request.param}", card())


@pytest.mark.parametrize("network", [".pt", *EXPORTED], indirect=True)
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_broken_files_are_reported_and_all_others_answered(foveal, photos, network, workers):
    said = foveal("predict", "photos", "--checkpoint", network, "--json", "--workers", workers)
    assert said.code == 1
    assert [answer["path"] for answer in json.loads(said.out)] == GOOD
    first, second, summary = said.error.splitlines()
    assert first.startswith("foveal: photos/03.png is not a readable image")
    assert second.startswith("foveal: photos/13.png is not a readable image")
    assert summary == "foveal: 2 of 20 images could not be read."


@pytest.mark.parametrize("network", EXPORTED, indirect=True)
def test_answers_are_those_of_each_image_alone(foveal, photos, network):
    """A linear classifier, whose answers are computed here."""
    answers = json.loads(foveal("predict", "photos", "--checkpoint", network, "--json", "--top-k", 1).out)
    for answer in answers:
        with Image.open(answer["path"]) as image:
            side = round(64 / 0.875)
            short = image.resize((int(side * 50 / 40), side), Image.Resampling.BICUBIC)
        left, top = round((short.width - 64) / 2), round((side - 64) / 2)
        pixels = np.asarray(short.crop((left, top, left + 64, top + 64)), np.float64).transpose(2, 0, 1) / 255
        mean, std = (np.array(numbers)[:, None, None] for numbers in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        assert answer["guesses"][0]["index"] == linear_logits((pixels - mean)[None] / std).argmax()


def test_what_a_folder_has_beside_images_is_said_once(foveal, photos, checkpoint):
    (photos / "notes.txt").write_text("none")
    said = foveal("predict", "photos", "photos", "--checkpoint", checkpoint)
    assert said.error.splitlines()[0] == (
        "foveal: photos has 1 file that Pillow does not read as images, left out: 1 .txt."
    )
    assert len(said.error.splitlines()) == 4


def test_a_list_on_standard_input_is_answered_in_its_order(foveal, photos, checkpoint, monkeypatch):
    listed = [GOOD[5], "photos/none.png", GOOD[2]]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(listed) + "\n"))
    said = foveal("predict", "-", "--checkpoint", checkpoint, "--top-k", 1)
    assert said.code == 1
    assert said.out.splitlines()[::2] == [GOOD[5], GOOD[2]]
    assert said.error.splitlines() == [
        "foveal: There is no image at photos/none.png: check the path.",
        "foveal: 1 of 3 images could not be read.",
    ]


def test_standard_input_must_not_be_a_terminal(foveal, checkpoint, monkeypatch):
    keyboard = io.StringIO()
    keyboard.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", keyboard)
    said = foveal("predict", "-", "--checkpoint", checkpoint)
    assert said.code == 2
    assert said.is_one_sentence("pipe one in, or name the images")


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["https://example.org/cat.jpg"], 1, "https://example.org/cat.jpg is a URL"),
        (["empty"], 1, "empty has no images"),
        (["photos/*.gif"], 1, "No image matches photos/*.gif"),
        (["photos/00.png", "--workers", "-1"], 2, "--workers must be at least 0, not -1"),
        (["photos/00.png", "--every", "2"], 2, "--every is for videos, and there is none"),
        (["photos/00.png", "--every", "0"], 2, "--every must be at least 1, not 0"),
        (["photos/00.png", "--out", "out"], 2, "end it in .csv, .json, .jsonl, not out."),
        (["photos/00.png", "--out", "no/a.csv"], 1, "There is no folder no: create it"),
        (["photos/00.png", "--features", "a.npz"], 2, "end it in .npy, not a.npz."),
        (["photos/00.png", "--features", "a.npy", "--out", "a.json"], 1, "a.json is where the names beside a.npy go"),
        (["photos/03.png"], 1, "photos/03.png is not a readable image"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(foveal, photos, checkpoint, words, code, part):
    photos.with_name("empty").mkdir()
    said = foveal("predict", *words, "--checkpoint", checkpoint)
    assert said.code == code
    assert said.is_one_sentence(part), said.error


def test_inputs_are_checked_before_the_network_is_loaded(foveal, photos, checkpoint, files_read):
    assert foveal("predict", "none.png", "no.png", "--checkpoint", checkpoint).code == 1
    assert foveal("predict", "photos/*.gif", "--checkpoint", checkpoint).code == 1
    assert files_read == []


def test_without_a_readable_image_nothing_is_written(foveal, photos, checkpoint, tmp_path):
    words = ["photos/03.png", "photos/13.png", "--checkpoint", checkpoint, "--out", "a.csv", "--features", "a.npy"]
    said = foveal("predict", *words)
    assert said.code == 1
    assert said.error.splitlines()[-1] == "foveal: None of the 2 images could be read: check the paths."
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_files_of_answers_hold_what_the_screen_shows(foveal, photos, checkpoint, tmp_path):
    document = json.loads(foveal("predict", "photos", "--checkpoint", checkpoint, "--json").out)
    for ending in ("csv", "json", "jsonl"):
        said = foveal("predict", "photos", "--checkpoint", checkpoint, "--out", f"answers.{ending}")
        assert said.code == 1
        assert said.out == f"answers.{ending}: 18 images\n"
    assert json.loads((tmp_path / "answers.json").read_text()) == document
    assert [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()] == document
    with (tmp_path / "answers.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["path", "rank", "class", "probability"]
    expected = [
        (answer["path"], str(rank), guess["name"], pytest.approx(guess["probability"], rel=1e-5))
        for answer in document
        for rank, guess in enumerate(answer["guesses"], start=1)
    ]
    assert [(path, rank, name, float(share)) for path, rank, name, share in rows[1:]] == expected
    assert len(expected) == 18 * 3


def test_json_and_a_file_can_both_be_had(foveal, photos, checkpoint, tmp_path):
    said = foveal("predict", GOOD[0], "--checkpoint", checkpoint, "--json", "--out", "a.json", "--top-k", 2)
    assert json.loads(said.out) == json.loads((tmp_path / "a.json").read_text())
    assert len(json.loads(said.out)[0]["guesses"]) == 2


def test_features_are_what_the_classes_are_computed_from(foveal, photos, checkpoint, tmp_path):
    said = foveal("predict", "photos", "--checkpoint", checkpoint, "--features", "f.npy", "--out", "a.json")
    assert said.code == 1
    assert said.out == "a.json: 18 images\nf.npy: 18 images\n"
    features = np.load(tmp_path / "f.npy")
    assert json.loads((tmp_path / "f.json").read_text()) == GOOD
    head = restore(checkpoint).model.get_classifier()
    logits = torch.from_numpy(features) @ head.weight.detach().T + head.bias.detach()
    shares = logits.softmax(1).numpy()
    for row, answer in zip(shares, json.loads((tmp_path / "a.json").read_text()), strict=True):
        expected = {CLASSES.index(guess["name"]): guess["probability"] for guess in answer["guesses"]}
        assert [expected[index] for index in range(3)] == pytest.approx(row, rel=1e-4)
    assert len(np.unique(features[:, 0])) == 18


@pytest.mark.parametrize("network", EXPORTED, indirect=True)
def test_an_exported_file_has_no_features(foveal, photos, network):
    said = foveal("predict", "photos", "--checkpoint", network, "--features", "f.npy")
    assert said.code == 2
    assert said.is_one_sentence("has no features beside its classes: pass --features with a checkpoint.")


def test_frames_of_a_video_are_answered_by_their_numbers(foveal, photos, checkpoint, monkeypatch, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"read by the stub")

    def frames(path, every):
        return ((number, Image.open(GOOD[number]).convert("RGB")) for number in range(0, 5, every))

    monkeypatch.setattr("foveal.tasks.video.find_spec", lambda name: object())
    monkeypatch.setattr("foveal.tasks.video.read_frames", frames)
    said = foveal("predict", "clip.mp4", "--every", 2, "--checkpoint", checkpoint, "--json")
    assert said.code == 0, said.error
    found = {answer["path"]: answer["guesses"] for answer in json.loads(said.out)}
    assert list(found) == ["clip.mp4#0", "clip.mp4#2", "clip.mp4#4"]
    (alone,) = json.loads(foveal("predict", GOOD[2], "--checkpoint", checkpoint, "--json").out)
    names = [guess["name"] for guess in alone["guesses"]]
    assert [guess["name"] for guess in found["clip.mp4#2"]] == names


class Terminal(io.StringIO):
    """A stream that is a terminal of 80 columns."""

    def isatty(self):
        return True


def test_a_bar_is_shown_on_a_terminal_and_answers_keep_their_stream(foveal, photos, checkpoint, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    terminal, console = Terminal(), predict_run.Console
    monkeypatch.setattr(predict_run, "Console", lambda stderr: console(file=terminal))
    said = foveal("predict", "photos", "--checkpoint", checkpoint, "--top-k", 1)
    assert said.out.splitlines()[::2] == GOOD
    shown = terminal.getvalue()
    assert "/20" in shown
    assert "foveal: photos/03.png is not a readable image" in shown


def test_names_that_are_not_utf8_are_answered(foveal, photos, checkpoint, monkeypatch):
    (photos / "00.png").rename(photos / "caf\udce9.png")
    listed = io.TextIOWrapper(io.BytesIO(b"photos/caf\xe9.png\n"), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", listed)
    for word in ("photos/caf\udce9.png", "-"):
        said = foveal("predict", word, "--checkpoint", checkpoint, "--top-k", 1)
        assert said.code == 0, said.error
        assert said.out.splitlines()[0] == "photos/caf?.png"


def test_images_of_any_shape_and_mode_are_answered(foveal, photos, checkpoint, tmp_path):
    odd = tmp_path / "odd"
    odd.mkdir()
    for name, mode, size in (("dot", "RGB", (1, 1)), ("line", "L", (1, 900)), ("grey", "I;16", (50, 40))):
        Image.new(mode, size).save(odd / f"{name}.png")
    Image.new("CMYK", (40, 30)).save(odd / "print.jpg")
    said = foveal("predict", "odd", "--checkpoint", checkpoint, "--top-k", 1)
    assert said.code == 0, said.error
    assert said.out.splitlines()[::2] == [f"odd/{name}" for name in ("dot.png", "grey.png", "line.png", "print.jpg")]


def test_the_folded_network_of_many_images_answers_as_the_plain_one(foveal, photos, checkpoint, monkeypatch, tmp_path):
    words = ["predict", *GOOD, "--checkpoint", checkpoint, "--json", "--features"]
    plain = json.loads(foveal(*words, tmp_path / "plain.npy").out)
    folded = []
    monkeypatch.setattr("foveal.cli.predict_classification.MANY", len(GOOD))
    monkeypatch.setattr("foveal.tasks.classification.predict.optimize", lambda net: folded.append(net) or optimize(net))
    many = json.loads(foveal(*words, tmp_path / "folded.npy").out)
    assert len(folded) == 1
    for one, other in zip(plain, many, strict=True):
        assert [guess["name"] for guess in one["guesses"]] == [guess["name"] for guess in other["guesses"]]
        probabilities = [[guess["probability"] for guess in answer["guesses"]] for answer in (one, other)]
        assert probabilities[1] == pytest.approx(probabilities[0], abs=1e-5)
    features = [np.load(tmp_path / name) for name in ("plain.npy", "folded.npy")]
    np.testing.assert_allclose(*features, rtol=1e-4, atol=1e-5)
