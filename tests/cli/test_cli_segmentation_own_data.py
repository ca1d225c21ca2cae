"""Segmenters on people's own label maps: what is missing is said in text, logs and JSON alike."""

import json

import numpy as np
import pytest

from foveal.training.checkpoint import read_checkpoint
from support.segmentation_folders import write_folder, write_split

FPN = "shapes.semantic_fpn_transxnet_atto"
QUICK = ["--epochs", "1", "--batch-size", "2", "--workers", "0", "--size", "64", "--warmup-epochs", "0"]


def halves(number, count=4, side=64):
    """Label maps whose left half is 0 and whose right half is ``number``."""
    pixels = np.zeros((side, side), dtype=np.uint8)
    pixels[:, side // 2 :] = number
    return [pixels] * count


def write_binary(root, number, val=2, places=("train", "val")):
    """Background and object, the object as ``number``."""
    for split, count in zip(places, (4, val), strict=True):
        write_split(root, split, halves(number, count), classes="background\nobject\n")
    return root


def notices(said):
    return [line.removeprefix("foveal: ") for line in said.error.splitlines() if line.startswith("foveal: ")]


def train(foveal, data, out, *words):
    return foveal("train", FPN, "--data", data, "--out", out, *QUICK, *words)


def evaluate(foveal, data, out, *words):
    return foveal("evaluate", FPN, "--checkpoint", out / "best.pt", "--data", data, "--workers", 0, *words)


def test_a_mean_over_one_of_two_classes_says_so_wherever_it_is_shown(foveal, tmp_path):
    """Pixels of 255 are ignored, so that a segmenter that knows one class is right everywhere."""
    data, out = write_binary(tmp_path / "data", 255), tmp_path / "run"
    said = train(foveal, data, out)
    assert said.code == 0, said.error
    expected = [
        f"No label map in {data}/labels/{split} has a pixel of the class object; all pixels that are not background "
        "have the number 255, which is ignored: save 255 as 1."
        for split in ("train", "val")
    ]
    assert notices(said) == expected
    (line,) = [line for line in said.error.splitlines() if line.startswith("epoch 1/1")]
    assert "  val mIoU 100.00 %, mean accuracy 100.00 %, pixel accuracy 100.00 % over 1 of 2 classes  " in line
    (record,) = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert (record["val_miou"], record["val_scored_classes"], record["val_classes"]) == (100, 1, 2)
    assert "Best mIoU 100.00 % over 1 of 2 classes in epoch 1 of 1" in said.out

    again = evaluate(foveal, data, out, "--json")
    document = json.loads(again.out)
    assert (document["notices"], notices(again)) == (expected[1:], expected[1:])
    results = document["results"]
    assert (results["miou"], results["absent"]) == (100, ["object"])
    assert (results["miou_classes"], results["macc_classes"]) == (1, 1)
    assert (results["scored_classes"], results["classes_without_examples"]) == (1, ["object"])
    assert [row["pixels"] for row in results["classes"]] == [2 * 64 * 32, 0]
    text = evaluate(foveal, data, out).out
    assert "mIoU over 1 of 2 classes  mean accuracy over 1 of 2 classes" in text
    assert "No pixel of 1 of 2 classes: object." in text


def test_a_dry_run_and_json_give_the_notices_of_a_run(foveal, tmp_path):
    data = write_binary(tmp_path / "data", 255)
    (data / "labels" / "train" / "notes.txt").touch()
    plan = foveal("train", FPN, "--data", data, *QUICK, "--dry-run", "--json")
    run = train(foveal, data, tmp_path / "run", "--json")
    assert (plan.code, run.code) == (0, 0), run.error
    assert notices(plan) == notices(run) == json.loads(run.out)["notices"] == json.loads(plan.out)["images"]["notices"]
    assert len(notices(run)) == 3
    assert "1 file that is not a label map, left out: 1 .txt." in notices(run)[0]


def test_what_only_an_epoch_can_show_is_said_after_it(foveal, tmp_path):
    """Forty label maps are too many for the look before the run."""
    data = tmp_path / "data"
    for start in range(0, 40, 10):
        write_folder(data / "images" / "new", data / "labels" / "new", halves(1, 10))
        for kind in ("images", "labels"):
            (data / kind / "train").mkdir(exist_ok=True)
            for file in (data / kind / "new").iterdir():
                file.rename(data / kind / "train" / f"{start}{file.name}")
    for kind in ("images", "labels"):
        (data / kind / "new").rmdir()
    write_split(data, "val", halves(2, 2), classes="background\nobject\nshadow\n")
    said = train(foveal, data, tmp_path / "run", "--batch-size", "8", "--json")
    assert said.code == 0, said.error
    places = [f"{data}/labels/{split}" for split in ("train", "val")]
    before = [
        f"None of the 32 label maps that were read, of 40 in {places[0]}, has a pixel of the class shadow.",
        f"No label map in {places[1]} has a pixel of the class object.",
    ]
    after = f"No label map in {places[0]} has a pixel of the class shadow."
    assert notices(said) == [*before, after]
    assert said.error.index("epoch 1/1") < said.error.index(after)
    assert json.loads(said.out)["notices"] == [after, before[1]]


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("words", [["--dry-run"], []])
def test_what_training_or_evaluation_would_refuse_is_refused_at_the_start(foveal, tmp_path, split, words):
    data, out = write_binary(tmp_path / "data", 1), tmp_path / "run"
    write_split(data, split, [np.full((64, 64), 255)] * 4, classes="background\nobject\n")
    said = foveal("train", FPN, "--data", data, "--out", out, *QUICK, *words)
    assert said.code == 1
    assert said.is_one_sentence(f"All pixels of the label maps in {data}/labels/{split} have the number 255", "0 to 1")
    assert not out.exists()


@pytest.mark.parametrize("words", [["--dry-run"], []])
def test_a_number_that_is_no_class_is_found_before_training(foveal, tmp_path, words):
    data, out = write_binary(tmp_path / "data", 1), tmp_path / "run"
    write_split(data, "val", halves(7, 2), classes="background\nobject\n")
    said = foveal("train", FPN, "--data", data, "--out", out, *QUICK, *words)
    assert said.is_one_sentence(
        f"{data}/labels/val/a.png has the value 7 at x=32, y=0; only 0 to 1 and 255 are allowed"
    )
    assert not out.exists()


def test_settings_of_label_maps_are_kept_with_the_weights(foveal, tmp_path):
    """Label maps a_mask.png with 0 for background, in a recipe's terms of ADE20K and then in others."""
    data, out = write_binary(tmp_path / "data", 1, places=("train", "valid")), tmp_path / "run"
    for file in sorted((data / "labels").rglob("*.png")):
        file.rename(file.with_stem(f"{file.stem}_mask"))
    assert train(foveal, data, out).is_one_sentence("pass --mask-suffix=_mask, which the label maps' names have")
    said = train(foveal, data, out, "--mask-suffix", "_mask", "--zero", "class")
    assert (said.code, notices(said)) == (0, []), said.error
    card = read_checkpoint(out / "best.pt")["card"]
    assert (card["mask_suffix"], card["zero_ignored"]) == ("_mask", False)
    document = json.loads(evaluate(foveal, data, out, "--json").out)
    assert (document["split"], document["set"], document["results"]["absent"]) == ("val", "valid", [])
    assert document["folders"] == {"images": f"{data}/images/valid", "label_maps": f"{data}/labels/valid"}
    said = evaluate(foveal, data, out, "--mask-suffix", "_other")
    assert said.is_one_sentence("a.png has no label map", "a_other.png")


def test_zero_decides_what_0_means(foveal, tmp_path):
    data, out = write_binary(tmp_path / "data", 1), tmp_path / "run"
    said = train(foveal, data, out, "--zero", "ignored")
    assert said.code == 0, said.error
    assert [notice.endswith("train with --zero class.") for notice in notices(said)] == [True, True]
    results = json.loads(evaluate(foveal, data, out, "--json").out)["results"]
    assert [row["pixels"] for row in results["classes"]] == [2 * 64 * 32, 0]  # of 1, which is background


@pytest.mark.parametrize("words", [["--mask-suffix", "_mask"], ["--zero", "class"]])
def test_options_of_label_maps_are_refused_for_other_tasks(foveal, words):
    said = foveal("train", "digits.transnext_atto", *words)
    assert said.code == 2
    assert said.is_one_sentence(f"{words[0]} is for segmenters, and digits.transnext_atto is a classifier")


def test_images_drawn_for_validation_are_evaluated_afterwards(foveal, tmp_path):
    data, out = tmp_path / "data", tmp_path / "run"
    write_folder(data / "images", data / "masks", halves(1, 10))
    (data / "classes.txt").write_text("background\nobject\n")
    assert train(foveal, data, out).is_one_sentence("no images of train", "pass --val-fraction 0.2")
    said = train(foveal, data, out, "--val-fraction", "0.3", "--seed", "5")
    assert said.code == 0, said.error
    held_out = read_checkpoint(out / "best.pt")["card"]["held_out"]
    assert (len(held_out["names"]), held_out["fraction"], held_out["seed"]) == (3, 0.3, 5)
    write_folder(data / "images", data / "masks", halves(1, 12))  # two more
    document = json.loads(evaluate(foveal, data, out, "--json").out)
    assert (document["set"], document["results"]["images"]) == ("30 % drawn for validation with seed 5", 3)
    metrics = read_checkpoint(out / "best.pt")["metrics"]
    assert document["results"]["miou"] == metrics["val_miou"]
    other = write_binary(tmp_path / "other", 1)  # has a validation split of its own
    assert json.loads(evaluate(foveal, other, out, "--json").out)["set"] == "val"
