"""Options of ``foveal train`` that override a recipe: regularisation, balanced classes and frozen stages."""

import json

import pytest
import timm
import torch

from foveal.errors import FovealError
from foveal.tasks.recipes import create_task, get_recipe
from foveal.training.checkpoint import read_checkpoint, save_checkpoint

PHOTOS, DETECTOR = "photos.test_convnext", "shapes.retinanet_transxnet_atto"


@pytest.fixture
def start(tmp_path):
    """Weights of an untrained network for the classes of ``colours``."""
    torch.manual_seed(0)
    fit = {"size": (32, 32), "crop": 1.0}
    card = {"model": "test_convnext", "model_args": {}, "classes": ["blue", "green", "red"], "preprocessing": fit}
    model = timm.create_model("test_convnext", num_classes=3)
    save_checkpoint({"model": model.state_dict(), "card": card, "format": 1}, tmp_path / "start.pt")
    return tmp_path / "start.pt"


def plan(foveal, recipe, *words):
    said = foveal("train", recipe, "--images", "6000", "--dry-run", "--json", *words)
    assert said.code == 0, said.error
    return json.loads(said.out)


def test_settings_override_those_of_a_recipe(foveal):
    words = ["--weight-decay", "0.1", "--ema-decay", "0.99", "--clip-norm", "0.5", "--layer-decay", "0.9"]
    config = plan(foveal, PHOTOS, *words)["config"]
    assert {name: config[name] for name in ("weight_decay", "ema_decay", "clip_norm", "layer_decay")} == {
        "weight_decay": 0.1, "ema_decay": 0.99, "clip_norm": 0.5, "layer_decay": 0.9,
    }  # fmt: skip


def test_settings_of_a_recipe_can_be_switched_off(foveal):
    words = ["--ema-decay", "0", "--clip-norm", "0", "--mixup", "0", "--cutmix", "0", "--label-smoothing", "0"]
    off = plan(foveal, "imagenet.transxnet_t", "--model", "test_convnext", *words)
    assert (off["config"]["ema_decay"], off["config"]["clip_norm"]) == (0, 0)
    assert off["memory"]["average"] == 0
    assert [off["recipe"]["augment"][name] for name in ("mixup", "cutmix", "label_smoothing")] == [0, 0, 0]


def test_augmentation_overrides_what_photos_chooses_and_is_shown(foveal):
    words = ["train", PHOTOS, "--images", "6000", "--dry-run", "--augment", "strong", "--mixup", "0.7"]
    said = foveal(*words)
    assert said.code == 0, said.error
    lines = " ".join(said.out.split())
    assert "crops of 8 to 100 % of the image, flips, RandAugment rand-m9-mstd0.5-inc1, erasing 0.25, mixup 0.7" in lines
    assert max(map(len, said.out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--augment", "strong"], ["--augment is for classifiers", "leave it out"]),
        (["--mixup", "0.2"], ["--mixup is for classifiers"]),
        (["--label-smoothing", "0.1"], ["--label-smoothing is for classifiers"]),
        (["--class-weights", "balanced"], ["--class-weights is for classifiers"]),
        (["--sampling", "balanced"], ["--sampling is for classifiers"]),
        (["--layer-decay", "0.7"], ["--layer-decay is for classifiers"]),
    ],
)
def test_a_detector_refuses_options_of_classifiers(foveal, words, parts):
    said = foveal("train", DETECTOR, "--dry-run", *words)
    assert said.code == 2
    assert said.is_one_sentence(*parts)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--weight-decay", "-1"], ["weight_decay must be at least 0"]),
        (["--ema-decay", "1"], ["ema_decay must be at least 0 and below 1"]),
        (["--layer-decay", "0"], ["layer_decay must be above 0 and at most 1"]),
        (["--clip-norm", "-1"], ["clip_norm must be at least 0"]),
        (["--mixup", "-1"], ["mixup must be at least 0"]),
        (["--label-smoothing", "1"], ["label_smoothing must be at least 0 and below 1"]),
        (["--freeze", "-1"], ["freeze must be at least 0"]),
        (["--freeze", "9", "--pretrained"], ["9 cannot be frozen"]),
        (["--class-weights", "balanced", "--sampling", "balanced"], ["both balance the classes"]),
        (["--freeze", "1"], ["--freeze keeps the weights that a run starts from", "--checkpoint FILE or --pretrained"]),
    ],
)
def test_settings_that_cannot_work_are_one_sentence(foveal, colours, quick, tmp_path, words, parts):
    said = foveal("train", "digits.transnext_atto", "--data", colours, "--out", tmp_path / "run", *quick, *words)
    assert said.code == 1
    assert said.is_one_sentence(*parts)
    assert not (tmp_path / "run").exists()


def test_frozen_stages_keep_their_weights_and_are_listed(foveal, colours, quick, start, tmp_path):
    words = ["train", "digits.transnext_atto", "--data", colours, "--checkpoint", start, *quick, "--freeze", "2"]
    planned = json.loads(foveal(*words, "--dry-run", "--json").out)
    frozen = {one["name"] for one in planned["parameters"] if one["rule"] == "frozen"}
    assert {name.split(".")[1] for name in frozen if name.startswith("stages.")} == {"0", "1"}
    assert "  frozen " in foveal(*words, "--dry-run").out
    out = tmp_path / "frozen"
    said = foveal(*words, "--out", out, "--epochs", "1", "--warmup-epochs", "0")
    assert said.code == 0, said.error
    before, after = read_checkpoint(start)["model"], read_checkpoint(out / "best.pt")["model"]
    assert {name for name in frozen if not before[name].equal(after[name])} == set()
    assert not before["head.fc.weight"].equal(after["head.fc.weight"])
    assert json.loads((out / "run.json").read_text())["settings"]["freeze"] == 2
    again = foveal("train", "--out", out, "--freeze", "3", "--resume")
    assert again.is_one_sentence("started with freeze = 2, not 3")


def test_a_linear_probe_trains_the_classifier_only(foveal, colours, quick, start):
    words = ["train", "digits.transnext_atto", "--data", colours, "--checkpoint", start, *quick, "--freeze", "all"]
    planned = json.loads(foveal(*words, "--dry-run", "--json").out)
    assert {one["name"] for one in planned["parameters"] if one["rule"] != "frozen"} == {
        "head.fc.weight",
        "head.fc.bias",
    }


def test_freeze_of_a_detector_is_that_of_its_backbone(foveal):
    planned = json.loads(foveal("train", DETECTOR, "--dry-run", "--json", "--freeze", "all").out)
    trained = {one["name"] for one in planned["parameters"] if one["rule"] != "frozen"}
    assert planned["recipe"]["frozen_stages"] == 4
    assert not any(".stages." in name and "feature_norm" not in name for name in trained)
    assert any(name.startswith("head") for name in trained)


def test_in_python_a_detector_refuses_settings_of_classifiers_too():
    recipe = get_recipe(DETECTOR).with_training(class_weights="balanced")
    with pytest.raises(FovealError, match="class_weights is not a setting for detection"):
        create_task(recipe)


@pytest.mark.parametrize("words", [["--class-weights", "balanced"], ["--sampling", "balanced"]])
def test_runs_with_balanced_classes_finish_and_know_it(foveal, colours, quick, tmp_path, words):
    for number in range(6):
        (colours / "train" / "red" / f"{number}.png").unlink()
    out = tmp_path / "balanced"
    said = foveal("train", "digits.transnext_atto", "--data", colours, "--out", out, *quick, "--epochs", "1", *words)
    assert said.code == 0, said.error
    config = read_checkpoint(out / "last.pt")["config"]
    assert config[words[0].removeprefix("--").replace("-", "_")] == "balanced"
