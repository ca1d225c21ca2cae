"""``foveal evaluate --corrupt``: what it prints, writes, keeps and refuses. A stand-in corrupts, since the library is
optional; tests/tasks/classification/test_robustness.py compares with the library itself."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from foveal.cli import classification
from foveal.tasks.classification.corruption_library import CorruptionLibrary
from foveal.tasks.classification.names import CORRUPTIONS


@pytest.fixture
def seen(monkeypatch):
    """The (corruption, severity) of every image that the stand-in has corrupted: it inverts, from severity 3 on."""
    calls = []

    def inverted(pixels, name, severity, seed):
        calls.append((name, severity))
        return 255 - pixels if severity >= 3 else pixels

    library = CorruptionLibrary("stand-in", "2.0", inverted)
    monkeypatch.setattr(classification, "corruption_library", lambda: library)
    return calls


def test_errors_are_printed_beside_the_clean_one_and_written(foveal, colours, trained, seen, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "out"
    words = ["evaluate", "--checkpoint", trained, "--data", colours, "--workers", 0, "--corrupt", "--out", out]
    said = foveal(*words)
    assert said.code == 0, said.error
    lines = said.out.splitlines()
    assert max(map(len, lines[:-1])) <= 80
    assert lines[0] == "test_convnext, 32x32, 12 images"
    assert lines[2].split() == ["error", "by", "severity,", "%", "1", "2", "3", "4", "5", "mean"]
    assert [line[:20].strip() for line in lines[3:18]] == [name.replace("_", " ") for name in CORRUPTIONS]
    assert lines[18:20] == [
        "Corrupted by stand-in 2.0.",
        "Unlike ImageNet-C's mCE, the mean is not divided by AlexNet's errors.",
    ]
    document = json.loads((out / "results.json").read_text())
    found = document["results"]
    assert (found["package"], found["version"], found["images"]) == ("stand-in", "2.0", 12)
    clean = found["clean_error"]
    for errors in found["errors"].values():
        assert (errors["1"], errors["2"]) == (clean, clean)
        assert errors["3"] == errors["4"] == errors["5"]
    inverted = found["errors"]["fog"]["5"]
    assert inverted != clean
    assert found["mean_corruption_error"] == pytest.approx((2 * clean + 3 * inverted) / 5)
    with (out / "robustness.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[1] == ["clean", *[""] * 5, str(round(clean, 2))]
    assert len(rows) == 2 + 15
    for name in ("robustness", "corrupted"):
        Image.open(out / f"{name}.png").verify()


def test_some_corruptions_and_severities_are_chosen_and_more_are_added_later(foveal, colours, trained, seen, tmp_path):
    words = ["evaluate", "--checkpoint", trained, "--data", colours, "--workers", 0, "--corrupt", "--json"]
    words += ["--out", tmp_path / "out", "--severities", 1, 5]
    found = json.loads(foveal(*words, "--corruptions", "fog").out)["results"]
    assert list(found["errors"]) == ["fog"]
    assert list(found["errors"]["fog"]) == ["1", "5"]
    seen.clear()
    more = json.loads(foveal(*words, "--corruptions", "fog", "snow").out)["results"]
    assert more["errors"]["fog"] == found["errors"]["fog"]
    counts = {cell: seen.count(cell) for cell in seen}
    assert {cell for cell, count in counts.items() if count >= 12} == {("snow", 1), ("snow", 5)}


def test_the_clean_error_is_that_of_a_plain_evaluation(foveal, colours, trained, seen):
    words = ["evaluate", "--checkpoint", trained, "--data", colours, "--workers", 0, "--json", "--size", 48]
    plain = json.loads(foveal(*words).out)["results"][0]
    said = foveal(*words, "--corrupt", "--corruptions", "fog")
    found = json.loads(said.out)
    assert found["size"] == [48, 48]
    assert found["results"]["clean_error"] == pytest.approx(100 - plain["top1"])
    assert "Nothing is kept if this is stopped" in said.error


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--corruptions", "fog"], "--corruptions is for --corrupt"),
        (["--severities", "1"], "--severities is for --corrupt"),
        (["--corrupt", "--corruptions", "rain"], "rain"),
        (["--corrupt", "--severities", "6"], "6"),
        (["--corrupt", "--severities", "1", "1"], "--severities names one of its values twice"),
        (["--corrupt", "--set", "a"], "--corrupt and --set exclude each other"),
        (["--corrupt", "--multi-scale"], "--corrupt and --multi-scale exclude each other"),
        (["--corrupt", "--precision", "int8"], "--corrupt and --precision int8 exclude each other"),
        (["--corrupt", "--size", "32", "64"], "--corrupt is for one --size"),
    ],
)
def test_options_that_do_not_fit_are_refused(foveal, words, part):
    said = foveal("evaluate", "--checkpoint", "any.pt", *words)
    assert said.code == 2
    assert said.is_one_sentence(part)


def test_a_size_below_the_librarys_is_refused_before_anything_is_corrupted(foveal, colours, trained, seen, tmp_path):
    words = ["--checkpoint", trained, "--data", colours, "--out", tmp_path / "out"]
    said = foveal("evaluate", *words, "--corrupt", "--size", 24)
    assert said.code == 1
    assert said.is_one_sentence("Images are corrupted from 32 pixels up, not at 24")
    assert not seen


def test_a_detector_is_not_corrupted(foveal):
    said = foveal("evaluate", "shapes.retinanet_transxnet_atto", "--checkpoint", __file__, "--corrupt")
    assert said.code == 2
    assert said.is_one_sentence("--corrupt is for classifiers")


def test_a_missing_library_is_said_before_the_images_are_read(foveal, trained, tmp_path, monkeypatch):
    monkeypatch.setattr("foveal.tasks.classification.corruption_library.PACKAGE", "no-such-package")
    said = foveal("evaluate", "--checkpoint", trained, "--data", tmp_path, "--corrupt")
    assert said.code == 1
    assert said.is_one_sentence("--corrupt needs no-such-package")


def test_pixels_that_reach_the_network_have_its_size(foveal, colours, trained, monkeypatch):
    shapes = set()

    def noted(pixels, name, severity, seed):
        shapes.add(pixels.shape)
        return pixels.astype(np.uint8)

    monkeypatch.setattr(classification, "corruption_library", lambda: CorruptionLibrary("stand-in", "2.0", noted))
    words = ["--data", colours, "--workers", 0, "--corrupt", "--corruptions", "fog", "--severities", 2]
    assert foveal("evaluate", "--checkpoint", trained, *words).code == 0
    assert shapes == {(32, 32, 3)}
