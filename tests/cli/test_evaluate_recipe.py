"""``foveal evaluate`` without a recipe, which a file of ``foveal train`` names, and with one that contradicts it."""

import json

import pytest
import timm
import torch

from foveal.training.checkpoint import read_checkpoint
from support.coco_folders import write_objects

RECIPE = "digits.transnext_atto"


def test_a_file_of_foveal_train_needs_no_recipe(foveal, colours, trained):
    words = ["--checkpoint", trained, "--data", colours, "--workers", 0, "--json"]
    bare, named = (foveal("evaluate", *recipe, *words) for recipe in ([], [RECIPE]))
    assert bare.code == 0, bare.error
    found, expected = (json.loads(said.out) for said in (bare, named))
    for document in (found, expected):
        document["results"][0].pop("images_per_second")
    assert found == expected
    assert found["recipe"] == RECIPE


def test_a_file_of_a_recipe_of_ones_own_needs_no_recipe(foveal, colours, trained, tmp_path):
    content = read_checkpoint(trained)
    content["card"]["recipe"] = "mine"
    torch.save(content, tmp_path / "mine.pt")
    said = foveal("evaluate", "--checkpoint", tmp_path / "mine.pt", "--data", colours, "--workers", 0, "--json")
    assert said.code == 0, said.error
    assert json.loads(said.out)["recipe"] == "mine"
    said = foveal("evaluate", "--checkpoint", tmp_path / "mine.pt", "--workers", 0)
    assert said.is_one_sentence("mine needs images: pass --data")


def test_a_recipe_that_contradicts_the_file_is_refused(foveal, colours, trained):
    said = foveal("evaluate", "imagenet.transnext_tiny", "--checkpoint", trained, "--data", colours)
    assert said.code == 1
    assert said.is_one_sentence(f"was trained with {RECIPE}, not with imagenet.transnext_tiny: leave RECIPE out")
    said = foveal("evaluate", "shapes.retinanet_transxnet_atto", "--checkpoint", trained, "--data", colours)
    assert said.is_one_sentence("holds a classifier", "not a detector")


def test_a_file_that_does_not_say_what_it_holds_needs_a_recipe(foveal, colours, tmp_path):
    torch.save(timm.create_model("transnext_atto").state_dict(), tmp_path / "released.pth")
    said = foveal("evaluate", "--checkpoint", tmp_path / "released.pth", "--data", colours)
    assert said.code == 2
    assert said.is_one_sentence("does not say what it holds: name its recipe")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--pretrained"], "RECIPE is missing"),
        ([], "Weights are missing"),
    ],
)
def test_what_is_missing_is_said(foveal, words, part):
    said = foveal("evaluate", *words)
    assert said.code == 2
    assert said.is_one_sentence(part)


def test_options_of_another_task_than_the_files_are_refused(foveal, trained):
    said = foveal("evaluate", "--window", 32, "--checkpoint", trained)
    assert said.code == 2
    assert said.is_one_sentence("--window is for segmenters, and this file holds a classifier")


def test_a_detector_needs_no_recipe_and_is_read_once(foveal, tmp_path, files_read):
    data = write_objects(tmp_path / "coco")
    quick = ["--epochs", 1, "--batch-size", 2, "--workers", 0, "--size", 64]
    said = foveal("train", "shapes.retinanet_transxnet_atto", "--data", data, "--out", tmp_path / "run", *quick)
    assert said.code == 0, said.error
    files_read.clear()
    best = tmp_path / "run" / "best.pt"
    said = foveal("evaluate", "--checkpoint", best, "--data", data, "--workers", 0, "--json")
    assert said.code == 0, said.error
    assert json.loads(said.out)["recipe"] == "shapes.retinanet_transxnet_atto"
    assert files_read == [best]
    said = foveal("evaluate", "--checkpoint", best, "--data", data, "--precision", "int8")
    assert said.code == 2
    assert said.is_one_sentence("--precision int8 is for classifiers, and this file holds a detector")
