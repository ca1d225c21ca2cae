"""``foveal export``: files, what it prints, and one sentence for what it cannot do."""

import json

import numpy as np
import pytest
from PIL import Image

from foveal.cli import export as command
from foveal.export import Exported
from foveal.runtime import open_session
from foveal.tasks.classification.network import Classifier
from foveal.tasks.classification.preprocessing import Preprocessing
from support.nets import atto

SIZE = 64
WORDS = ["--model", "transnext_atto", "--no-pretrained", "--size", SIZE]


@pytest.fixture
def small(monkeypatch):
    """Named models have blocks in their first and last stage alone, and ten classes."""

    def described(name, *, pretrained=False):
        assert not pretrained
        net = atto(name.partition("_")[0], depths=(1, 0, 0, 1))
        fit = Preprocessing((SIZE, SIZE), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
        return Classifier(name, net, [f"class {number}" for number in range(10)], fit, trained_here=False)

    monkeypatch.setattr(command, "described_by_timm", described)


def test_the_answer_fits_80_columns_and_says_what_was_written(foveal, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = foveal("export", *WORDS, "--out", "a.onnx")
    assert (said.code, said.error) == (0, "")
    first, second = said.out.splitlines()
    assert first == "a.onnx: transnext_atto, fp32, batch 1, 64 x 64"
    assert "operators; differs by" in second
    assert max(len(first), len(second)) <= 80


def test_json_describes_every_file(foveal, small, tmp_path):
    said = foveal("export", *WORDS, "--out", tmp_path / "a.b", "--format", "onnx, openvino", "--json")
    assert (said.code, said.error) == (0, "")
    documents = json.loads(said.out)
    assert [document["path"] for document in documents] == [f"{tmp_path}/a.b.onnx", f"{tmp_path}/a.b.xml"]
    for document in documents:
        assert document.keys() == {"path", "operators", "error", "seconds", "bytes"}
        assert document["operators"] > 100
        assert 0 < document["error"] < 1e-4
    assert documents[0]["bytes"] == (tmp_path / "a.b.onnx").stat().st_size
    assert {one.name for one in tmp_path.iterdir()} == {"a.b.onnx", "a.b.xml", "a.b.bin"}


@pytest.fixture
def written(monkeypatch, small):
    """The paths, formats and settings that the command exports with, without exporting."""
    calls = []

    def record(subject, path, format, *, on_step, **settings):
        calls.append((str(path), format, settings))
        on_step("nothing")
        path.write_text("")
        return Exported(path, subject.card("fp32", 1, False), 1, 0.0, 0.0)

    monkeypatch.setattr(command, "export", record)
    return calls


@pytest.mark.parametrize(
    ("words", "paths"),
    [
        ([], ["transnext_atto.onnx"]),
        (["--format", "torch"], ["transnext_atto.pt2"]),
        (["--format", "openvino,onnx"], ["transnext_atto.xml", "transnext_atto.onnx"]),
        (["--model", "transnext_base.in1k_384"], ["transnext_base.in1k_384.onnx"]),
        (["--model", "transnext_base.in1k_384", "--format", "onnx,torch"],
         ["transnext_base.in1k_384.onnx", "transnext_base.in1k_384.pt2"]),
        (["--out", "b"], ["b.onnx"]),
        (["--out", "b.onnx"], ["b.onnx"]),
        (["--out", "b.onnx", "--format", "onnx,openvino"], ["b.onnx", "b.xml"]),
        (["--out", "b.v2.xml", "--format", "onnx,openvino"], ["b.v2.onnx", "b.v2.xml"]),
    ],
)  # fmt: skip
def test_a_file_has_the_name_of_the_model_or_that_of_out(foveal, written, tmp_path, monkeypatch, words, paths):
    monkeypatch.chdir(tmp_path)
    said = foveal("export", *WORDS, *words)
    assert (said.code, said.error) == (0, "")
    assert [path for path, *_ in written] == paths


def test_options_reach_the_export(foveal, written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert foveal("export", *WORDS, "--dynamic", "batch,size", "--precision", "fp16").code == 0
    assert foveal("export", *WORDS, "--dynamic", "size", "--batch", 3).code == 0
    (_, first, free), (_, second, three) = written
    assert first == second == "onnx"
    assert free == {**free, "precision": "fp16", "dynamic": ["batch", "size"], "batch": 1}
    assert three == {**three, "precision": "fp32", "dynamic": ["size"], "batch": 3}


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "A network is missing: pass --checkpoint FILE or --model NAME."),
        ([*WORDS, "--format", "tf"], "--format takes onnx, openvino, torch, aoti or a list of these, not 'tf'."),
        ([*WORDS, "--format", ","], "--format takes onnx, openvino, torch, aoti or a list of these."),
        ([*WORDS, "--format", "torch,aoti"], "torch and aoti files both end in .pt2: export them one at a time."),
        ([*WORDS, "--dynamic", "depth"], "--dynamic takes batch, size or a list of these, not 'depth'."),
        ([*WORDS, "--out", "a.xml"], "--out a.xml does not end in .onnx, as ONNX files do: rename it."),
        ([*WORDS, "--out", "a.pt"], "--out a.pt does not end in .onnx, as ONNX files do: rename it."),
        ([*WORDS, "--format", "onnx,torch", "--out", "a.bin"], "--out a.bin does not end in .onnx, as ONNX files do"),
        ([*WORDS, "--size", "-5"], "--size must be at least 1, not -5."),
        ([*WORDS, "--size", "1", "2", "3"], "--size takes one side, or height and width, not 3 numbers."),
        ([*WORDS, "--precision", "fp8"], "foveal export --help"),
        ([*WORDS, "--batch", "0"], "--batch must be at least 1, not 0."),
        ([*WORDS, "--batch", "1", "--dynamic", "batch"], "--dynamic batch takes any number of images: leave --batch"),
        ([*WORDS, "--calibration", "."], "--calibration is for int8: add --precision int8, or leave it out."),
        ([*WORDS, "--calibration-images", "8"], "--calibration-images is for int8: add --precision int8, or leave"),
        (["--checkpoint", __file__, "--no-pretrained"], "--checkpoint has the weights: leave --no-pretrained out."),
    ],
)
def test_wrong_arguments_are_one_sentence_before_anything_is_written(foveal, tmp_path, monkeypatch, words, part):
    monkeypatch.chdir(tmp_path)
    said = foveal("export", *words)
    assert said.code == 2
    assert said.is_one_sentence(part), said.error
    assert list(tmp_path.iterdir()) == []


def test_wrong_formats_are_refused_before_weights_are_fetched(foveal, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a network was created")

    monkeypatch.setattr(command, "described_by_timm", refuse)
    assert foveal("export", "--model", "transnext_tiny", "--format", "torch,aoti").code == 2
    assert foveal("export", "--model", "transnext_tiny", "--out", "a.pt2").code == 2
    assert foveal("export", "--model", "transnext_tiny", "--precision", "bf16").code == 1


def test_a_size_that_the_network_cannot_take_is_one_sentence(foveal):
    said = foveal("export", *WORDS, "--size", 31)
    assert said.code == 1
    assert said.is_one_sentence("img_size must be at least 32 x 32, got 31 x 31"), said.error


def test_a_model_without_released_weights_is_one_sentence(foveal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = foveal("export", "--model", "transnext_atto")
    assert said.code == 1
    assert said.is_one_sentence("transnext_atto"), said.error
    assert said.is_one_sentence("--no-pretrained"), said.error


def test_a_file_that_differs_is_one_sentence(foveal, small, tmp_path, monkeypatch):
    from foveal.export import write

    monkeypatch.setattr(write, "BUDGETS", dict.fromkeys(write.BUDGETS, 1e-12))
    said = foveal("export", *WORDS, "--format", "torch", "--out", tmp_path / "a.pt2")
    assert said.code == 1
    assert said.is_one_sentence("The file differs from the network by", "it was not kept.")
    assert list(tmp_path.iterdir()) == []


def test_the_features_of_the_stages_are_exported(foveal, small, tmp_path):
    said = foveal("export", *WORDS, "--features", "--format", "openvino", "--out", tmp_path / "a.xml")
    assert said.code == 0, said.error
    session = open_session(tmp_path / "a.xml")
    assert (session.card.task, session.card.classes) == ("features", ())
    found = session.run(np.zeros((1, 3, SIZE, SIZE), np.float32))
    assert list(found) == ["stage1", "stage2", "stage3", "stage4"]
    assert [SIZE // array.shape[2] for array in found.values()] == [4, 8, 16, 32]


@pytest.fixture
def photographs(tmp_path):
    draw = np.random.default_rng(0)
    for number, shape in enumerate(((90, 70, 3), (40, 120, 3))):
        Image.fromarray(draw.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / f"{number}.png")
    return [tmp_path / f"{number}.png" for number in range(2)]


def test_predict_gives_the_answer_of_the_checkpoint(foveal, trained, photographs, tmp_path):
    """From ``foveal train`` to a file: classes, preprocessing and probabilities are those of the checkpoint."""
    said = foveal("export", "--checkpoint", trained, "--format", "onnx,openvino", "--out", tmp_path / "net")
    assert said.code == 0, said.error
    expected = json.loads(foveal("predict", *photographs, "--checkpoint", trained, "--json").out)
    for ending in (".onnx", ".xml"):
        said = foveal("predict", *photographs, "--checkpoint", tmp_path / f"net{ending}", "--json")
        assert said.code == 0, said.error
        for answer, other in zip(json.loads(said.out), expected, strict=True):
            assert answer["path"] == other["path"]
            assert [guess["name"] for guess in answer["guesses"]] == [guess["name"] for guess in other["guesses"]]
            found, right = ([guess["probability"] for guess in one["guesses"]] for one in (answer, other))
            assert found == pytest.approx(right, rel=1e-4)


def test_help_fits_80_columns(foveal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = foveal("export", "--help")
    assert said.code == 0
    assert max(map(len, said.out.splitlines())) <= 80


def test_a_folder_is_no_file_to_write(foveal, small, tmp_path):
    """FILE.bin would be left without its FILE.xml otherwise."""
    said = foveal("export", *WORDS, "--out", tmp_path)
    assert (said.code, said.error) == (2, f"foveal: --out {tmp_path} is a folder: pass the name of a file.\n")
    (tmp_path / "a.xml").mkdir()
    said = foveal("export", *WORDS, "--format", "openvino", "--out", tmp_path / "a")
    assert said.code == 1
    assert "a.xml is a folder" in said.error
    assert [path.name for path in tmp_path.iterdir()] == ["a.xml"]
