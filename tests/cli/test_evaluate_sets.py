"""``foveal evaluate`` on further ImageNet test sets, modes and sizes, next to the authors' comparable metrics."""

import errno
import json
import os
import re
import shutil
from dataclasses import replace

import pytest
import timm
import torch
from PIL import Image

from foveal.tasks.classification import network
from foveal.tasks.classification.imagenet.corruptions import ALEXNET
from foveal.tasks.classification.imagenet.sets import SETS

RECIPE = "digits.transnext_atto"  # chosen for its small input of 32 pixels


@pytest.fixture
def released(tmp_path):
    """A checkpoint in the released format: a bare state dict for 1,000 classes."""
    torch.manual_seed(0)
    torch.save(timm.create_model("transnext_atto").state_dict(), tmp_path / "released.pth")
    return tmp_path / "released.pth"


@pytest.fixture
def data(tmp_path):
    """A few images per set, in folders named as in the public archives."""
    folders = {
        "imagenet-a": ["n01498041", "n12267677"],
        "imagenet-r": ["n01443537"],
        "sketch": ["n01440764", "n15075141"],
        "imagenetv2-matched-frequency-format-val": ["0", "2", "10"],
    }
    folders |= {f"imagenet-c/{name}/{severity}": ["n01440764"] for name in ALEXNET for severity in range(1, 6)}
    for folder, names in folders.items():
        for number, name in enumerate(names):
            place = tmp_path / "data" / folder / name
            place.mkdir(parents=True)
            Image.new("RGB", (40, 32), (40 * number, 90, 160)).save(place / "1.png")
    return tmp_path / "data"


def test_all_sets_are_evaluated_in_one_command(foveal, released, data):
    words = ["--checkpoint", released, "--data", data, "--workers", 0]
    said = foveal("evaluate", RECIPE, *words, "--set", "a", "r", "sketch", "v2", "c")
    assert said.code == 0, said.error
    lines = said.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["set", "size", "images", "classes", "top-1", "top-5", "loss", "images/s"]
    assert [line.split()[:6] for line in lines[1:5]] == [
        ["ImageNet-A", "32x32", "2", "2", "of", "200"],
        ["ImageNet-R", "32x32", "1", "1", "of", "200"],
        ["ImageNet-Sketch", "32x32", "2", "2", "of", "1,000"],
        ["ImageNet-V2", "32x32", "3", "3", "of", "1,000"],
    ]
    assert lines[5].startswith("ImageNet-C, 32x32, 75 images over 1 of 1,000 classes: mCE ")
    first = next(number for number, line in enumerate(lines) if line.startswith("error by severity")) + 1
    rows = [line[:14].strip() for line in lines[first : first + 15]]
    assert rows == [name.replace("_", " ")[:14].strip() for name in ALEXNET]
    remarks = " ".join(" ".join(lines[first + 15 :]).split()).split("ImageNet-")[1:]
    named = "'1', '3', '4', '5', '6' and 992 more. "
    assert remarks[3] == f"V2: figures are over 3 of 1,000 classes, without an image of the classes {named}"
    assert [remark[0] for remark in remarks] == ["A", "R", "S", "V", "C"]


def test_modes_and_sizes_form_one_table_and_are_written_to_files(foveal, colours, tmp_path):
    run = tmp_path / "run"
    quick = ["--epochs", 1, "--batch-size", 24, "--workers", 0, "--warmup-epochs", 0]
    assert foveal("train", RECIPE, "--data", colours, "--out", run, *quick).code == 0
    words = ["--checkpoint", run / "best.pt", "--data", colours, "--workers", 0, "--out", tmp_path / "out"]
    said = foveal("evaluate", RECIPE, *words, "--multi-scale", "--size", 32, 64)
    assert said.code == 0, said.error
    heading, *rows, written = said.out.splitlines()[1:]
    assert written.endswith(str(tmp_path / "out"))
    assert heading.split() == ["mode", "32", "64"]
    assert [row.rsplit(maxsplit=2)[0].strip() for row in rows] == [
        "normal", "linear", "no length scaling", "interpolated bias",
    ]  # fmt: skip
    trained = [float(row.split()[-2]) for row in rows]
    assert trained == [trained[0]] * 4  # at the training size all modes agree
    results = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    assert [(one["mode"], one["pool_size"]) for one in results[:2]] == [("normal", None), ("linear", 1)]
    assert (tmp_path / "out" / "sizes.png").exists()
    details = tmp_path / "out" / "details"
    assert {place.name for place in details.iterdir()} == {
        f"val-{mode}-{side}" for mode in ("normal", "linear", "no_length_scaling", "interpolate") for side in (32, 64)
    }
    assert (details / "val-linear-64" / "confusion.csv").exists()


def test_unpublished_models_have_no_paper_column(foveal, released, data):
    words = ["--checkpoint", released, "--data", data, "--workers", 0, "--set", "a"]
    plain = foveal("evaluate", RECIPE, *words)
    assert "paper" not in plain.out
    said = foveal("evaluate", RECIPE, *words, "--paper")
    assert said.code == 0  # unpublished model: nothing to show
    assert "paper" not in said.out


@pytest.fixture
def home(monkeypatch):
    """Replace the download of released weights by new weights."""
    made = timm.create_model

    def offline(name, pretrained=False, **options):
        return made(name, **options)

    monkeypatch.setattr(network.timm, "create_model", offline)


def test_released_weights_show_the_paper_metrics_if_the_set_is_complete(foveal, home, data, monkeypatch):
    words = ["evaluate", "imagenet.transnext_micro", "--pretrained", "--data", data, "--workers", 0, "--set", "a", "r"]
    monkeypatch.setitem(SETS, "a", replace(SETS["a"], images=2))
    said = foveal(*words)
    assert said.code == 0, said.error
    heading, first, second, *remarks = said.out.splitlines()
    assert heading.split()[5] == "paper"
    assert first.split()[7] == "29.9"
    assert len(second.split()) == len(first.split()) - 1
    assert remarks[-1] == "ImageNet-R: 1 of 30,000 images, so the paper's figure is not shown."
    document = json.loads(foveal(*words, "--paper", "--json").out)
    assert document["model"] == "transnext_micro.in1k"
    assert [one["paper"] for one in document["results"]] == [29.9, 45.8]


def test_unreleased_weights_cannot_be_downloaded(foveal, data):
    said = foveal("evaluate", RECIPE, "--pretrained", "--data", data, "--set", "a")
    assert said.code == 1
    assert said.is_one_sentence("transnext_atto has no released weights", "--checkpoint")


def test_a_classifier_with_other_classes_is_rejected(foveal, trained, data):
    said = foveal("evaluate", RECIPE, "--checkpoint", trained, "--data", data, "--set", "a")
    assert said.code == 1
    assert said.is_one_sentence("ImageNet-A is for classifiers of ImageNet's 1,000 classes", "3 other classes")


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (["--set", "a", "a"], 2, ["--set", "twice"]),
        (["--set", "imagenet"], 2, ["imagenet"]),
        (["--mode", "fast"], 2, ["fast"]),
        (["--mode", "normal", "--pool-size", "7"], 2, ["--pool-size", "linear"]),
        (["--pretrained"], 2, ["--checkpoint and --pretrained"]),
        (["--mode", "linear"], 1, ["ConvNeXt has no modes", "--mode"]),
        (["--optimize"], 1, ["nothing to fold", "--optimize"]),
        (["--out", "{trained}"], 1, ["is a file", "--out"]),
        (["--precision", "fp16"], 1, ["fp16"]),
    ],
)
def test_invalid_options_print_a_one_line_error(foveal, trained, colours, words, code, parts):
    words = [word.format(trained=trained) for word in words]
    said = foveal("evaluate", RECIPE, "--checkpoint", trained, "--data", colours, *words)
    assert said.code == code
    assert said.is_one_sentence(*parts)


def test_broken_images_are_reported_once(foveal, trained, colours, tmp_path):
    broken = [colours / "val" / name for name in ("blue/1.png", "red/0.png")]
    for file in broken:
        file.write_bytes(b"broken")
    words = ["--checkpoint", trained, "--data", colours, "--workers", 0, "--broken", "skip", "--size", 32, 64]
    said = foveal("evaluate", RECIPE, *words, "--json")
    assert said.code == 0, said.error
    assert said.error.splitlines() == [f"foveal: {file} could not be read and was left out." for file in broken]
    for one in json.loads(said.out)["results"]:
        assert (one["broken"], one["broken_names"]) == (2, [str(file) for file in broken])


@pytest.mark.parametrize(
    ("stranger", "parts"),
    [
        ("imagenet-r/dog", ["ImageNet-R", "'dog'"]),
        ("imagenet-c/fog/4/dog", ["ImageNet-C", "'dog'"]),
    ],
)
def test_errors_in_the_last_set_are_raised_before_the_first_image_is_read(
    foveal, released, data, monkeypatch, stranger, parts
):
    (data / stranger).mkdir()
    if "imagenet-c" not in stranger:
        Image.new("RGB", (40, 32)).save(data / stranger / "1.png")
    monkeypatch.setattr(Image, "open", lambda file, **how: pytest.fail(f"{file} was opened"))
    said = foveal("evaluate", RECIPE, "--checkpoint", released, "--data", data, "--workers", 0, "--set", "a", "r", "c")
    assert said.code == 1
    assert said.is_one_sentence(*parts)


def test_the_table_is_printed_even_if_its_files_cannot_be_written(foveal, trained, colours, tmp_path, monkeypatch):
    def refuse(**words):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    words = ["--checkpoint", trained, "--data", colours, "--workers", 0, "--out", tmp_path / "out"]
    said = foveal("evaluate", RECIPE, *words)
    assert said.code == 1
    assert said.out.splitlines()[0].split()[0] == "size"
    assert said.error.splitlines()[-1].startswith("foveal: ")
    assert "No space left on device" in said.error


def test_missing_sets_are_reported_up_front(foveal, released, colours):
    said = foveal("evaluate", RECIPE, "--checkpoint", released, "--data", colours, "--set", "v2")
    assert said.code == 1
    assert said.is_one_sentence("ImageNet-V2 is not in", "imagenetv2-matched-frequency-format-val")


@pytest.fixture
def digits_net(foveal, colours, tmp_path):
    """The ``best.pt`` of a TransNeXt that was trained on ``colours`` for an epoch."""
    words = ["--epochs", 1, "--batch-size", 24, "--workers", 0, "--warmup-epochs", 0, "--out", tmp_path / "run"]
    assert foveal("train", RECIPE, "--data", colours, *words).code == 0
    return tmp_path / "run" / "best.pt"


def unwrapped(text: str) -> str:
    """The text without any white space, since lines are wrapped anywhere."""
    return "".join(text.split())


def test_int8_is_calibrated_on_training_images_and_summarised(foveal, digits_net, colours):
    words = ["--checkpoint", digits_net, "--data", colours, "--workers", 0, "--size", 32, 64, "--precision", "int8"]
    said = foveal("evaluate", RECIPE, *words, "--calibration-images", 9)
    assert said.code == 0, said.error
    assert not said.error
    assert max(map(len, said.out.splitlines())) <= 80
    for size in ("32x32", "64x64"):
        summary = rf"{size}:int8:2\dof29products\(\d+\.\d%ofmultiply-adds\);cosine\d\.\d+on9images"
        assert re.search(summary, unwrapped(said.out))
    said = foveal("evaluate", RECIPE, *words, "--json")
    document = json.loads(said.out)
    plain = json.loads(foveal("evaluate", RECIPE, *words[:-2], "--json").out)
    assert (document["precision"], document["optimized"]) == ("int8", True)
    for found, expected in zip(document["results"], plain["results"], strict=True):
        int8 = found["int8"]
        assert (int8["calibration_images"], int8["calibration_data"]) == (24, str(colours / "train"))
        assert 20 <= int8["layers"] <= 24 < int8["of"] == 29
        assert int8["cosine"] >= 0.999
        assert abs(found["loss"] - expected["loss"]) <= 0.02 * expected["loss"]
        assert "int8" not in expected


def test_int8_without_training_images_says_what_it_was_calibrated_on(foveal, digits_net, colours, released, data):
    shutil.rmtree(colours / "train")
    said = foveal(
        "evaluate", RECIPE, "--checkpoint", digits_net, "--data", colours, "--workers", 0, "--precision", "int8"
    )
    assert said.code == 0, said.error
    assert f"Calibratedonimagesthatareevaluated,thoseof{colours / 'val'}:" in unwrapped(said.out)
    words = ["--checkpoint", released, "--data", data, "--workers", 0, "--precision", "int8", "--set"]
    for sets, folder in ((["c", "a"], "imagenet-c/gaussian_noise/1"), (["a"], "imagenet-a")):
        said = foveal("evaluate", RECIPE, *words, *sets)
        assert said.code == 0, said.error
        assert f"thoseof{data / folder}:" in unwrapped(said.out)


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (["--calibration-images", "9"], 2, ["--calibration-images is for --precision int8"]),
        (["--precision", "int8", "--calibration-images", "0"], 2, ["--calibration-images must be at least 1"]),
        (["--precision", "int8"], 1, ["cannot be quantized", "leave --precision int8 out"]),
    ],
)
def test_invalid_options_of_int8_print_a_one_line_error(foveal, trained, colours, words, code, parts):
    said = foveal("evaluate", RECIPE, "--checkpoint", trained, "--data", colours, *words)
    assert said.code == code
    assert said.is_one_sentence(*parts)


def test_a_broken_calibration_image_stops_int8_or_is_skipped(foveal, digits_net, colours):
    (colours / "train" / "blue" / "0.png").write_bytes(b"broken")
    words = ["--checkpoint", digits_net, "--data", colours, "--workers", 0, "--precision", "int8"]
    said = foveal("evaluate", RECIPE, *words)
    assert said.code == 1
    assert said.is_one_sentence("blue/0.png")
    said = foveal("evaluate", RECIPE, *words, "--broken", "skip", "--json")
    assert said.code == 0, said.error
    assert json.loads(said.out)["results"][0]["int8"]["calibration_images"] == 23


def test_int8_is_for_classifiers(foveal, tmp_path):
    said = foveal("evaluate", "shapes.retinanet_transxnet_atto", "--checkpoint", __file__, "--precision", "int8")
    assert said.code == 2
    assert said.is_one_sentence("--precision int8 is for classifiers", "is a detector")
