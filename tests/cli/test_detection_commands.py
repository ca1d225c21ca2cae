"""Detectors on the command line: train, evaluate, predict, and every option."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from foveal.cli.app import main
from foveal.report.picture_folder import NOTE
from foveal.tasks.recipes import list_recipes
from foveal.training.checkpoint import read_checkpoint
from support.coco_folders import annotation, change, write_objects, write_split
from support.nets import shrunk

MASK_RCNN, RETINANET = "shapes.mask_rcnn_transnext_atto", "shapes.retinanet_transxnet_atto"
DINO = "shapes.dino_transnext_atto"
QUICK = ["--epochs", "2", "--batch-size", "2", "--workers", "0", "--size", "64"]


def train(recipe: str, data: Path, out: Path, *words: str) -> Path:
    """The ``best.pt`` of a short run."""
    with pytest.raises(SystemExit) as leave:
        main(["train", recipe, "--data", str(data), "--out", str(out), *QUICK, *words])
    assert leave.value.code == 0
    return out / "best.pt"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_objects(tmp_path_factory.mktemp("coco"))


@pytest.fixture(scope="module")
def mask_rcnn(data, tmp_path_factory):
    return train(MASK_RCNN, data, tmp_path_factory.mktemp("mask_rcnn") / "run")


@pytest.fixture(scope="module")
def retinanet(data, tmp_path_factory):
    return train(RETINANET, data, tmp_path_factory.mktemp("retinanet") / "run")


@pytest.fixture
def classifier(tmp_path):
    """A checkpoint as saved by `foveal train`; ``bare.pt`` next to it has no metadata."""
    card = {"task": "classification", "model": "transnext_atto", "model_args": {}, "classes": ["a", "b"]}
    card["preprocessing"] = {"size": (32, 32)}
    state = shrunk("transnext_atto", num_classes=2).state_dict()
    torch.save({"model": state, "card": card}, tmp_path / "classifier.pt")
    torch.save(state, tmp_path / "bare.pt")
    return tmp_path / "classifier.pt"


def test_training_writes_a_run_and_the_suggested_command_runs(foveal, data, tmp_path):
    out = tmp_path / "my run"
    said = foveal("train", MASK_RCNN, "--data", data, "--out", out, *QUICK)
    assert said.code == 0, said.error
    assert sorted(path.name for path in out.iterdir()) == [
        "best.pt", "curves.png", "last.pt", "metrics.jsonl", "report.html", "run.json", "run.toml", "steps.jsonl",
    ]  # fmt: skip
    assert "val box AP" in said.error
    assert "mask AP" in said.error
    (advice,) = [line for line in said.out.splitlines() if line.startswith("Evaluate them: ")]
    command, *words = shlex.split(advice.removeprefix("Evaluate them: "))
    assert command == "foveal"
    assert foveal(*words, "--workers", 0).code == 0


def test_a_run_is_resumed_and_its_settings_are_saved(foveal, data, tmp_path):
    words = ["train", RETINANET, "--data", data, "--out", tmp_path / "run", *QUICK, "--drop-path", "0.2"]
    assert foveal(*words).code == 0
    assert foveal(*words, "--resume").code == 0
    assert foveal(*words, "--resume", "--seed", 3).is_one_sentence("started with seed = 0, not 3")
    card = read_checkpoint(tmp_path / "run" / "best.pt")["card"]
    assert (card["drop_path"], card["options"]["short"], card["classes"]) == (0.2, 64, ["cat", "dog"])


def test_a_run_can_start_from_the_weights_of_another(foveal, data, retinanet, tmp_path):
    words = ["--data", data, "--out", tmp_path / "run", *QUICK, "--epochs", 1, "--checkpoint", retinanet]
    assert foveal("train", RETINANET, *words).code == 0


def test_evaluate_reproduces_the_metrics_of_the_run_exactly(foveal, tmp_path):
    """For a DINO: its untrained proposals cover these objects, two fifths of the image, centred."""
    objects = [annotation(n, image=n, box=(19, 19, 26, 26)) for n in range(1, 5)]
    data = write_split(tmp_path / "coco", "train", objects, [(64, 64)] * 4)
    write_split(data, "val", objects[:3], [(64, 64)] * 3)
    best = train(DINO, data, tmp_path / "run", "--epochs", "1")
    said = foveal("evaluate", DINO, "--checkpoint", best, "--data", data, "--workers", 0, "--json")
    assert said.code == 0, said.error
    document = json.loads(said.out)
    metrics = read_checkpoint(best)["metrics"]
    validated = {name.removeprefix("val_"): value for name, value in metrics.items() if name.startswith("val_")}
    assert validated["box_ap50"] > 0
    assert {name: document["results"][name] for name in validated} == validated
    assert (document["results"]["images"], document["recipe"], document["split"]) == (3, DINO, "val")


def test_metrics_fit_80_columns_and_files_are_in_coco_format(foveal, data, mask_rcnn, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    words = ["--checkpoint", mask_rcnn, "--data", data, "--workers", 0, "--out", tmp_path / "out"]
    said = foveal("evaluate", MASK_RCNN, *words)
    assert said.code == 0, said.error
    title, heading, box, mask, classes, *rows = said.out.splitlines()
    assert "3 images" in title
    assert heading.split() == ["AP", "AP50", "AP75", "small", "medium", "large"]
    assert (box.split()[0], mask.split()[0], classes.split()) == ("box", "mask", ["class", "box", "AP", "mask", "AP"])
    assert {row.split()[0] for row in rows} == {"cat", "dog"}
    assert max(map(len, said.out.splitlines())) <= 80
    truth = COCO(data / "annotations" / "instances_val.json")
    for kind in ("bbox", "segm"):
        found = truth.loadRes(str(tmp_path / "out" / f"detections.{kind}.json"))
        assert set(found.getImgIds()) <= {1, 2, 3}
        assert set(found.getCatIds()) == {3, 7}
    results = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    assert results["images"] == 3
    assert results["confusion"]["classes"] == ["cat", "dog", "background"]
    assert sum(map(sum, results["confusion"]["counts"])) >= 5  # objects, found or missed
    for name in ("classes.csv", "confusion.csv", "confusion.png", "misses.png", "precision_recall_classes.png"):
        assert (tmp_path / "out" / name).stat().st_size > 0


@pytest.mark.parametrize("recipe", [MASK_RCNN, RETINANET])
def test_a_detector_can_be_evaluated_in_bf16(foveal, data, recipe, request):
    checkpoint = request.getfixturevalue(recipe.split(".")[1].partition("_trans")[0])
    words = ["--checkpoint", checkpoint, "--data", data, "--workers", 0, "--precision", "bf16", "--json"]
    said = foveal("evaluate", recipe, *words)
    assert said.code == 0, said.error
    assert json.loads(said.out)["results"]["images"] == 3


def test_predict_draws_each_image_and_writes_coco_json(foveal, data, mask_rcnn, tmp_path):
    images, out = [data / "val" / "1.png", data / "train" / "1.png"], tmp_path / "out"
    said = foveal("predict", *images, "--checkpoint", mask_rcnn, "--score", 0, "--out", out)
    assert said.code == 0, said.error
    assert sorted(path.name for path in out.iterdir()) == [NOTE, "1.png", "1_2.png", "detections.json"]
    for image, name in zip(images, ("1.png", "1_2.png"), strict=True):
        assert f"{image} -> {out / name}" in said.out
        with Image.open(image) as before, Image.open(out / name) as after:
            assert before.size == after.size
            assert not np.array_equal(before.convert("RGB"), after.convert("RGB"))
    found = COCO(out / "detections.json")
    assert [image["file_name"] for image in found.loadImgs([1, 2])] == list(map(str, images))
    assert found.anns
    assert all(found.annToMask(thing).shape == (64, 80) for thing in found.anns.values())


def test_predict_prints_the_objects_or_that_there_are_none(foveal, data, mask_rcnn):
    image = data / "val" / "3.png"
    said = foveal("predict", image, "--checkpoint", mask_rcnn, "--score", 0)
    assert said.out.splitlines()[0] == str(image)
    assert all(line.split()[1:3] in (["%", "cat"], ["%", "dog"]) for line in said.out.splitlines()[1:])
    said = foveal("predict", image, "--checkpoint", mask_rcnn, "--score", 1)
    assert said.out.splitlines() == [str(image), "  nothing above the score"]
    said = foveal("predict", image, "--checkpoint", mask_rcnn, "--score", 0, "--json")
    assert {category["name"] for category in json.loads(said.out)["categories"]} == {"cat", "dog"}


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["--set", "r"], "--set"),
        (["--mode", "linear"], "--mode"),
        (["--multi-scale"], "--multi-scale"),
        (["--pool-size", "7"], "--pool-size"),
        (["--paper"], "--paper"),
        (["--model", "transnext_tiny"], "--model"),
        (["--optimize"], "--optimize"),
        (["--size", "64", "96"], "one --size"),
    ],
)
def test_classifier_options_are_rejected_for_a_detector(foveal, data, retinanet, words, option):
    said = foveal("evaluate", RETINANET, "--checkpoint", retinanet, "--data", data, *words)
    assert said.code == 2
    assert said.is_one_sentence(option, "is a detector")


def test_released_detector_weights_are_not_downloaded(foveal):
    said = foveal("evaluate", "coco.mask_rcnn_transnext_tiny", "--pretrained")
    assert said.code == 2
    assert said.is_one_sentence("no weights to download", "--checkpoint")


def test_predict_rejects_options_of_other_tasks(foveal, data, retinanet, classifier, tmp_path):
    image = data / "val" / "1.png"
    for checkpoint, words, parts in [
        (retinanet, ["--top-k", 3], ["--top-k is for classifiers", "a detector"]),
        (retinanet, ["--model", "transxnet_atto"], ["names its model: leave --model out"]),
        (classifier, ["--score", 0.3], ["--score is for detectors", "a classifier"]),
        (classifier, ["--out", tmp_path / "out"], ["--out is a file for a classifier: end it in .csv"]),
        (retinanet, ["--out", tmp_path / "out.csv"], ["--out is a folder for a detector", "out.csv"]),
        (retinanet, ["--features", tmp_path / "out.npy"], ["--features is for classifiers", "a detector"]),
        (classifier, ["--model", "coco.dino_transnext_tiny"], ["names its model: leave --model out"]),
        (retinanet, ["--score", 2], ["--score must be from 0 to 1"]),
    ]:
        said = foveal("predict", image, "--checkpoint", checkpoint, *words)
        assert said.code == 2
        assert said.is_one_sentence(*parts)
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_another_task_prints_a_one_line_error(foveal, data, retinanet, classifier, tmp_path):
    bare = classifier.with_name("bare.pt")
    released = tmp_path / "released.pt"
    torch.save({"state_dict": torch.load(retinanet)["model"]}, released)
    for words, parts in [
        (["evaluate", RETINANET, "--checkpoint", classifier, "--data", data], ["holds a classifier", "not a detector"]),
        (["evaluate", RETINANET, "--checkpoint", bare, "--data", data], ["holds no detector"]),
        (["evaluate", "digits.transnext_atto", "--checkpoint", retinanet, "--data", data], ["holds a detector"]),
        (["evaluate", MASK_RCNN, "--checkpoint", released, "--data", data], ["does not fit this MaskRCNN"]),
        (["predict", data / "val" / "1.png", "--checkpoint", released], ["pass --model NAME"]),
    ]:
        said = foveal(*words)
        assert said.code == 1
        assert said.is_one_sentence(*parts)


def test_a_command_loads_the_checkpoint_once(foveal, data, retinanet, files_read):
    assert foveal("predict", data / "val" / "3.png", "--checkpoint", retinanet).code == 0
    assert files_read == [retinanet]
    words = ["--checkpoint", retinanet, "--data", data, "--workers", 0]
    assert foveal("evaluate", RETINANET, *words).code == 0
    assert files_read == [retinanet, retinanet]


def test_data_with_other_classes_prints_a_one_line_error(foveal, data, retinanet, tmp_path):
    others = [{"id": 3, "name": "cat"}, {"id": 7, "name": "cow"}]
    folder = write_split(tmp_path / "other", "val", [annotation(category=7)], categories=others)
    said = foveal("evaluate", RETINANET, "--checkpoint", retinanet, "--data", folder)
    assert said.code == 1
    assert said.is_one_sentence(
        "classes that training does not have, cow (annotation 1", "(cat, dog), or pass other --data"
    )


def test_skipped_annotations_are_reported(foveal, retinanet, tmp_path):
    folder = write_objects(tmp_path / "coco")
    for split in ("train", "val"):
        change(folder, split, lambda content: content["annotations"][0].update(bbox=[4, 5, 0, 28], segmentation=[]))
    train = ["train", RETINANET, "--data", folder, "--out", tmp_path / "run", *QUICK, "--epochs", 1]
    evaluate = ["evaluate", RETINANET, "--data", folder, "--checkpoint", retinanet, "--workers", 0]
    for words in (train, evaluate):
        assert foveal(*words).is_one_sentence("Annotation 1 of image 1 (1.png)", "or pass --broken skip")
        said = foveal(*words, "--broken", "skip")
        assert said.code == 0, said.error
        reason = "box of zero area (annotation 1 of image 1 (1.png))"
        assert f"instances_val.json has a broken entry, left out here: {reason}." in said.error


def test_the_list_of_recipes_fits_80_columns(foveal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = foveal("train", "--list")
    assert max(map(len, said.out.splitlines())) <= 80
    for recipe in list_recipes():
        assert f"\n{recipe.name} " in "\n" + said.out
        assert recipe.summary in " ".join(said.out.split())


def test_a_dry_run_shows_lr_factors_schedule_and_batch(foveal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = foveal("train", "coco.dino_transnext_tiny", "--model", "transnext_atto", "--dry-run", "--processes", 8)
    assert said.code == 0, said.error
    assert max(map(len, said.out.splitlines())) <= 80
    for part in (
        "118,287 images (COCO train2017)",
        "16 = 8 processes x 2 images x 1 pass",
        "12 epochs of 7,393 updates: 88,716 in all",
        "weight decay 0.05, gradients clipped to a norm of 0.1",
        "short side 480 to 800 pixels, long side at most 1,333",
        "Memory is not estimated",
    ):
        assert part in said.out
    factors = {line.split()[0]: line.split()[-1] for line in said.out.splitlines() if line.startswith("  ")}
    assert (factors["backbone.net.model.stages"], factors["others"]) == ("0.1", "1")
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_shows_the_end_of_warmup_in_updates(foveal):
    said = foveal("train", "coco.mask_rcnn_transnext_tiny", "--model", "transnext_atto", "--dry-run")
    (line,) = [line for line in said.out.splitlines() if "warm-up over" in line]
    assert line.split()[-2:] == ["500", "1.000e-04"]
