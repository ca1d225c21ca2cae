"""Segmenters on the command line: train, evaluate, predict, and every option."""

import json
import re
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

from foveal.cli.app import main
from foveal.report.picture_folder import NOTE
from foveal.tasks.dense.shapes import CLASSES, write_shapes
from foveal.tasks.recipes import get_recipe
from foveal.tasks.segmentation.data import ADE20K_CLASSES
from foveal.training.checkpoint import read_checkpoint
from support.nets import shrunk

UPERNET = "shapes.upernet_transnext_atto"
QUICK = ["--epochs", "1", "--batch-size", "2", "--workers", "0", "--size", "64", "--warmup-epochs", "0"]
NAMES = ["background", *CLASSES]
OTHERS = [NOTE, "label_maps.json"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes", train=4, val=3, side=64)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("upernet") / "my run"
    with pytest.raises(SystemExit) as leave:
        main(["train", UPERNET, "--data", str(data), "--out", str(out), *QUICK])
    assert leave.value.code == 0
    return out / "best.pt"


@pytest.fixture
def measure(foveal, data, trained):
    """Run ``foveal evaluate`` on the trained segmenter with further arguments."""
    return lambda *words: foveal("evaluate", UPERNET, "--checkpoint", trained, "--data", data, "--workers", 0, *words)


@pytest.fixture
def others(tmp_path):
    """Checkpoints of a classifier and of a detector as saved by `foveal train`, and one without metadata."""
    card = {"task": "classification", "model": "transnext_atto", "model_args": {}, "classes": ["a", "b"]}
    card["preprocessing"] = {"size": (32, 32)}
    state = shrunk("transnext_atto", num_classes=2).state_dict()
    torch.save({"model": state, "card": card}, tmp_path / "classifier.pt")
    torch.save({"model": state, "card": {**card, "task": "detection", "detector": "dino"}}, tmp_path / "detector.pt")
    torch.save(state, tmp_path / "bare.pt")
    return tmp_path


def test_evaluate_reproduces_the_metrics_of_the_run_exactly(measure, trained):
    said = measure("--json")
    assert said.code == 0, said.error
    document = json.loads(said.out)
    metrics = read_checkpoint(trained)["metrics"]
    assert {name: document["results"][name] for name in ("miou", "macc", "aacc")} == {
        name: metrics[f"val_{name}"] for name in ("miou", "macc", "aacc")
    }
    assert [row["name"] for row in document["results"]["classes"]] == NAMES
    assert (document["results"]["images"], document["recipe"], document["split"]) == (3, UPERNET, "val")


def test_a_command_loads_the_checkpoint_once(foveal, measure, data, trained, files_read):
    image = next((data / "val").iterdir())
    assert foveal("predict", image, "--checkpoint", trained).code == 0
    assert files_read == [trained]
    assert measure().code == 0
    assert files_read == [trained, trained]


def test_the_command_suggested_after_training_runs(foveal, data, tmp_path):
    said = foveal("train", UPERNET, "--data", data, "--out", tmp_path / "a run", *QUICK)
    assert said.code == 0, said.error
    assert "val mIoU" in said.error
    assert (tmp_path / "a run" / "curves.png").exists()
    (advice,) = [line for line in said.out.splitlines() if line.startswith("Evaluate them: ")]
    command, *words = shlex.split(advice.removeprefix("Evaluate them: "))
    assert command == "foveal"
    assert foveal(*words, "--workers", 0).code == 0


def test_metrics_fit_80_columns_and_files_are_written(measure, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = measure("--out", tmp_path / "out")
    assert said.code == 0, said.error
    title, how, heading, overall, classes, *rows = said.out.splitlines()
    assert "upernet transnext_atto, 3 images" in title
    assert how.startswith("Images in their own size")
    assert (re.split(" {2,}", heading.strip()), len(overall.split())) == (
        ["mIoU", "mean accuracy", "pixel accuracy"],
        3,
    )
    assert classes.split() == 2 * ["class", "IoU", "accuracy"]
    assert {word for row in rows for word in row.split() if word.isalpha()} == set(NAMES)
    assert max(map(len, said.out.splitlines())) <= 80
    files = {path.name for path in (tmp_path / "out").iterdir()}
    tables = {"classes.csv", "confusion.csv", "images.csv"}
    assert files == {"classes.png", "confusion.png", "examples.png", "results.json", "worst.png", *tables}
    assert json.loads((tmp_path / "out" / "results.json").read_text())["results"]["images"] == 3


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], dict(window=None, stride=None, scales=[0.5], flip=False)),
        (["--window", "32"], dict(window=32, stride=21)),
        (["--window", "32", "--stride", "30", "--batch-size", "2"], dict(window=32, stride=30, windows_at_once=2)),
        (["--multi-scale"], dict(scales=[0.25, 0.375, 0.5, 0.625, 0.75, 0.875], flip=True)),
        (["--whole", "--flip"], dict(window=None, flip=True, scales=[0.5])),
        (["--size", "128"], dict(scales=[1.0])),
    ],
)
def test_options_set_the_inference_settings(measure, words, expected):
    """The run used crops of 64 pixels, half of the recipe's, so images are evaluated at half their size."""
    said = measure("--json", *words)
    assert said.code == 0, said.error
    seen = json.loads(said.out)["inference"]
    assert {name: seen[name] for name in expected} == expected


def test_the_position_bias_option_changes_the_results(foveal, data, trained, tmp_path):
    """The model has a position bias large enough to matter and was trained with extrapolation."""
    content = torch.load(trained, weights_only=True)
    draw = torch.Generator().manual_seed(0)
    for name, weights in content["model"].items():
        if "cpb_fc" in name or "classifier" in name:
            weights.normal_(generator=draw)
    torch.save(content, tmp_path / "lively.pt")
    words = ["--checkpoint", tmp_path / "lively.pt", "--data", data, "--workers", 0, "--json"]
    asked = {bias: ["--position-bias", bias] for bias in ("interpolate", "extrapolate")}
    found = {
        bias: json.loads(foveal("evaluate", UPERNET, *words, *more).out)["results"]["classes"]
        for bias, more in {"own": [], **asked}.items()
    }
    assert found["own"] == found["extrapolate"]
    assert found["own"] != found["interpolate"]


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (["--stride", "20"], 2, ["--stride", "--window"]),
        (["--whole", "--window", "32"], 2, ["--whole", "--window"]),
        (["--window", "0"], 2, ["--window must be at least 1"]),
        (["--window", "32", "--stride", "33"], 1, ["stride of 33 leaves gaps"]),
        (["--size", "64", "96"], 2, ["is a segmenter", "one --size"]),
        (["--set", "r"], 2, ["--set is for classifiers", "is a segmenter"]),
        (["--mode", "linear"], 2, ["--mode is for classifiers", "is a segmenter"]),
        (["--model", "transnext_tiny"], 2, ["--model is for classifiers"]),
        (["--optimize"], 2, ["--optimize is for classifiers"]),
        (["--split", "test"], 1, ["no images of test"]),
    ],
)
def test_invalid_options_print_a_one_line_error(measure, words, code, parts):
    said = measure(*words)
    assert said.code == code
    assert said.is_one_sentence(*parts)


@pytest.mark.parametrize("word", ["--window=32", "--stride=20", "--whole", "--flip", "--position-bias=interpolate"])
@pytest.mark.parametrize("recipe", ["digits.transnext_atto", "shapes.retinanet_transxnet_atto"])
def test_segmenter_options_are_rejected_for_other_tasks(foveal, recipe, word):
    said = foveal("evaluate", recipe, "--checkpoint", __file__, word)
    assert said.code == 2
    assert said.is_one_sentence(word.split("=")[0], "is for segmenters", f"{recipe} is a ")


def test_an_option_of_two_tasks_names_both_in_the_error_for_the_third(foveal):
    said = foveal("evaluate", "shapes.retinanet_transxnet_atto", "--checkpoint", __file__, "--multi-scale")
    assert said.is_one_sentence("--multi-scale is for classifiers and segmenters, and shapes.retinanet")


def test_released_weights_are_not_downloaded(foveal):
    said = foveal("evaluate", "ade20k.upernet_transnext_tiny", "--pretrained")
    assert said.code == 2
    assert said.is_one_sentence("no weights to download", "--checkpoint")


def test_a_checkpoint_of_another_task_prints_a_one_line_error(foveal, data, trained, others):
    image = data / "val" / "000001.jpg"
    for words, parts in [
        (
            ["evaluate", UPERNET, "--checkpoint", others / "classifier.pt"],
            ["a classifier (transnext_atto), not a seg"],
        ),
        (["evaluate", UPERNET, "--checkpoint", others / "detector.pt"], ["holds a detector (dino), not a segmenter"]),
        (["evaluate", UPERNET, "--checkpoint", others / "bare.pt"], ["holds no segmenter"]),
        (["evaluate", "digits.transnext_atto", "--checkpoint", trained], ["holds a segmenter (upernet), not a class"]),
        (
            ["evaluate", "shapes.retinanet_transxnet_atto", "--checkpoint", trained],
            ["a segmenter (upernet), not a de"],
        ),
        (["predict", image, "--checkpoint", others / "bare.pt", "--model", UPERNET], ["holds no segmenter"]),
    ]:
        said = foveal(*words)
        assert said.code == 1
        assert said.is_one_sentence(*parts)


def test_data_with_other_classes_prints_a_one_line_error(measure, data, tmp_path):
    for place in ("val", "labels"):
        (tmp_path / place).symlink_to(data / place)
    (tmp_path / "classes.txt").write_text("\n".join(["background", "ball", *CLASSES[1:]]))
    said = measure("--data", tmp_path)
    assert said.code == 1
    assert said.is_one_sentence("knows 6 classes", f"number 2 is {CLASSES[0]} there and ball here", "--data")


def test_broken_images_and_label_maps_are_left_out_and_named(measure, tmp_path):
    folder = write_shapes(tmp_path / "shapes", train=0, val=3, side=64)
    image, labels = folder / "val" / "000001.jpg", folder / "labels" / "val" / "000003.png"
    image.write_bytes(b"broken")
    Image.new("L", (10, 10)).save(labels)
    words = ["--data", folder, "--json", "--out", tmp_path / "out"]
    assert measure(*words).is_one_sentence(str(image), "not a readable image")
    said = measure(*words, "--broken", "skip")
    assert said.code == 0, said.error
    looked, *others = said.error.splitlines()
    assert looked.startswith(f"foveal: 2 of the 3 images with label maps in {folder}/labels/val that were looked at")
    assert others == [
        f"foveal: {file} could not be read and was left out." for file in sorted([str(image), str(labels)])
    ]
    assert json.loads(said.out)["results"]["images"] == 1
    assert (tmp_path / "out" / "examples.png").exists()


def test_predict_draws_each_image_and_writes_its_label_map(foveal, data, trained, tmp_path):
    images, out = [data / "val" / "000001.jpg", data / "train" / "000001.jpg"], tmp_path / "out"
    said = foveal("predict", *images, "--checkpoint", trained, "--out", out)
    assert said.code == 0, said.error
    stems = ["000001", "000001_2"]
    pictures = [f"{stem}{ending}" for stem in stems for ending in (".png", "_labels.png")]
    assert sorted(path.name for path in out.iterdir()) == sorted([*pictures, *OTHERS])
    for image, stem in zip(images, stems, strict=True):
        assert f"{image} -> {out / stem}.png, {out / stem}_labels.png" in said.out
        with Image.open(image) as before, Image.open(out / f"{stem}_labels.png") as labels:
            assert (labels.size, labels.mode) == (before.size, "P")
            assert np.asarray(labels).max() < len(NAMES)
        assert Image.open(out / f"{stem}.png").mode == "RGB"


def test_text_and_json_report_the_same_shares(foveal, data, trained, tmp_path):
    image = data / "val" / "000002.jpg"
    text = foveal("predict", image, "--checkpoint", trained)
    document = json.loads(foveal("predict", image, "--checkpoint", trained, "--json", "--out", tmp_path / "out").out)
    (answer,) = document
    assert json.loads((tmp_path / "out" / "label_maps.json").read_text()) == document
    labels = np.asarray(Image.open(answer["label_map"]))
    assert labels.shape == (answer["height"], answer["width"])
    shares = {row["name"]: row["share"] for row in answer["classes"]}
    assert shares == {NAMES[label]: (labels == label).mean() for label in np.unique(labels)}
    path, *lines = text.out.splitlines()
    assert path == str(image)
    assert [line.split("  ")[-1] for line in lines] == list(shares)


def test_a_released_checkpoint_is_loaded_with_the_named_recipe(foveal, data, tmp_path):
    torch.save({"state_dict": get_recipe(UPERNET).create(150).state_dict()}, tmp_path / "released.pth")
    words = ["--checkpoint", tmp_path / "released.pth", "--model", UPERNET, "--json"]
    said = foveal("predict", data / "val" / "000001.jpg", *words)
    assert said.code == 0, said.error
    (answer,) = json.loads(said.out)
    assert {(row["label"], row["name"]) for row in answer["classes"]} <= set(enumerate(ADE20K_CLASSES))
    assert sum(row["share"] for row in answer["classes"]) == pytest.approx(1)


def test_no_input_image_is_overwritten_by_its_prediction(foveal, data, trained, tmp_path):
    for name in ("a.png", "a_labels.png"):
        Image.open(data / "val" / "000001.jpg").save(tmp_path / name)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    said = foveal("predict", *sorted(before), "--checkpoint", trained, "--out", tmp_path)
    assert said.code == 0, said.error
    assert {path: path.read_bytes() for path in before} == before
    pictures = ["a_2.png", "a_2_labels.png", "a_labels_2.png", "a_labels_2_labels.png"]
    assert {path.name for path in tmp_path.iterdir()} == {*(path.name for path in before), *pictures, *OTHERS}


def test_predict_rejects_options_of_other_tasks(foveal, data, trained, others, tmp_path):
    image = data / "val" / "000001.jpg"
    for checkpoint, words, parts in [
        (trained, ["--top-k", 3], ["--top-k is for classifiers", "a segmenter"]),
        (trained, ["--score", 0.3], ["--score is for detectors", "a segmenter"]),
        (trained, ["--model", UPERNET], ["names its model: leave --model out"]),
        (
            others / "classifier.pt",
            ["--out", tmp_path / "o"],
            ["--out is a file for a classifier: end it in .csv"],
        ),
    ]:
        said = foveal("predict", image, "--checkpoint", checkpoint, *words)
        assert said.code == 2
        assert said.is_one_sentence(*parts)


def test_a_dry_run_with_many_no_decay_parameters_fits_80_columns(foveal):
    said = foveal("train", "shapes.mask2former_transnext_atto", "--dry-run")
    assert said.code == 0, said.error
    assert max(map(len, said.out.splitlines())) <= 80
    names = said.out[said.out.index("  (cpb_fc1") : said.out.index("temperature)")]
    assert "queries_features" in " ".join(names.split())


def test_a_dry_run_counts_iterations_and_memory(foveal):
    said = foveal("train", "ade20k.upernet_transnext_tiny", "--model", "transnext_atto", "--dry-run", "--processes", 8)
    assert said.code == 0, said.error
    assert max(map(len, said.out.splitlines())) <= 80
    for part in (
        "20,210 images",
        "16 = 8 processes x 2 images x 1 pass",
        "10 epochs of 16,000 updates: 160,000 in all",
        "activations of 2 images",
    ):
        assert part in said.out
    quarter = next(line for line in said.out.splitlines() if "1/4 of the polynomial" in line)
    assert quarter.split()[-3:-1] == ["2.5", "40,000"]
