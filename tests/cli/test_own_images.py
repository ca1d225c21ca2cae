"""What is reported about a folder of images: in the text, in the JSON, and before anything is trained."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

RECIPE = "digits.transnext_atto"


@pytest.fixture
def partial(colours):
    """A folder whose validation lacks a class and has files that are not images."""
    shutil.rmtree(colours / "val" / "green")
    for name in ("a.heic", "b.heic", "notes.txt"):
        (colours / "val" / "red" / name).touch()
    return colours


def notices_of(folder):
    return [
        f"{folder}/val has 3 files that Pillow does not read as images, left out: 2 .heic, 1 .txt.",
        f"{folder}/val has no image of the class 'green': the validation is over 2 of 3 classes.",
    ]


def spoken(notices):
    return [f"foveal: {notice}" for notice in notices]


def test_a_plan_gives_the_notices_of_a_run_as_text_and_json(foveal, partial, quick):
    words = ["train", RECIPE, "--data", partial, *quick, "--dry-run"]
    assert foveal(*words).error.splitlines() == spoken(notices_of(partial))
    said = foveal(*words, "--json")
    assert said.error.splitlines() == spoken(notices_of(partial))
    assert json.loads(said.out)["images"]["notices"] == notices_of(partial)


def test_a_run_and_its_evaluation_say_over_how_many_classes_they_are(foveal, partial, quick, tmp_path):
    out = tmp_path / "run"
    said = foveal("train", RECIPE, "--data", partial, "--out", out, *quick, "--epochs", 2)
    assert said.code == 0, said.error
    assert said.error.splitlines()[:2] == spoken(notices_of(partial))
    assert [" over 2 of 3 classes " in line for line in said.error.splitlines() if line.startswith("epoch")] == [
        True
    ] * 2
    assert said.out.startswith("Best top-1 ")
    assert " % over 2 of 3 classes in epoch" in said.out
    for line in (out / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert (record["val_scored_classes"], record["val_classes"]) == (2, 3)

    words = ["evaluate", RECIPE, "--checkpoint", out / "best.pt", "--data", partial, "--workers", 0]
    said = foveal(*words)
    assert said.error.splitlines() == spoken(notices_of(partial)[:1])
    heading, row, *remark = said.out.splitlines()
    assert heading.split() == ["size", "images", "classes", "top-1", "top-2", "loss", "images/s"]
    assert row.split()[:5] == ["32x32", "8", "2", "of", "3"]
    assert " ".join(remark) == "validation: figures are over 2 of 3 classes, without an image of the class 'green'."
    document = json.loads(foveal(*words, "--json", "--out", tmp_path / "results").out)
    assert document["notices"] == notices_of(partial)[:1]
    (result,) = document["results"]
    assert (result["classes"], result["classes_without_images"], result["images"]) == (3, ["green"], 8)
    assert (result["scored_classes"], result["classes_without_examples"]) == (2, ["green"])
    assert "top5" not in result
    assert json.loads((tmp_path / "results" / "results.json").read_text())["results"][0].keys() == result.keys()


def test_json_of_a_run_has_its_notices(foveal, partial, quick, tmp_path):
    said = foveal("train", RECIPE, "--data", partial, "--out", tmp_path / "run", *quick, "--epochs", 1, "--json")
    assert json.loads(said.out)["notices"] == notices_of(partial)


def test_a_complete_folder_has_no_notices_and_no_column_of_classes(foveal, colours, trained):
    said = foveal("evaluate", RECIPE, "--checkpoint", trained, "--data", colours, "--workers", 0)
    assert said.error == ""
    heading = said.out.splitlines()[0]
    assert heading.split() == ["size", "images", "top-1", "top-2", "loss", "images/s"]
    document = json.loads(
        foveal("evaluate", RECIPE, "--checkpoint", trained, "--data", colours, "--workers", 0, "--json").out
    )
    assert document["notices"] == []
    assert (document["results"][0]["classes"], document["results"][0]["classes_without_images"]) == (3, [])


def test_two_classes_have_no_top_k_anywhere(foveal, colours, quick, tmp_path):
    for split in ("train", "val"):
        shutil.rmtree(colours / split / "green")
    out = tmp_path / "run"
    said = foveal("train", RECIPE, "--data", colours, "--out", out, *quick, "--epochs", 1)
    assert said.code == 0, said.error
    evaluation = ["evaluate", RECIPE, "--checkpoint", out / "best.pt", "--data", colours, "--workers", 0]
    table, document = foveal(*evaluation).out, foveal(*evaluation, "--json").out
    assert table.splitlines()[0].split() == ["size", "images", "top-1", "loss", "images/s"]
    for text in (said.error, said.out, (out / "metrics.jsonl").read_text(), table, document):
        assert "top1" in text or "top-1" in text
        for k in range(2, 6):
            assert f"top{k}" not in text
            assert f"top-{k}" not in text


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_a_validation_without_images_is_refused_before_the_first_step(foveal, colours, quick, tmp_path, words):
    for file in (colours / "val").glob("*/*"):
        file.rename(file.with_suffix(".heic"))
    said = foveal("train", RECIPE, "--data", colours, "--out", tmp_path / "run", *quick, *words)
    assert said.code == 1
    assert said.is_one_sentence("val has no image in its class folders (12 .heic)")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_images_that_no_run_can_read_are_refused_before_the_first_step(foveal, colours, quick, tmp_path, split, words):
    """Float images up to 255, of which nothing says what is white."""
    files = sorted((colours / split).glob("*/*"))
    for file in files:
        Image.fromarray(np.full((8, 8), 200.0, dtype=np.float32)).save(file.with_suffix(".tif"))
        file.unlink()
    said = foveal("train", RECIPE, "--data", colours, "--out", tmp_path / "run", *quick, *words)
    assert said.code == 1
    assert said.is_one_sentence("has fractions of 32 bits from 200 to 200, and which of them is white")
    said = foveal("train", RECIPE, "--data", colours, "--out", tmp_path / "run", *quick, *words, "--broken", "skip")
    assert said.code == 1
    assert said.is_one_sentence(f"None of the {len(files)} images of {colours / split} can be read; the first: ")
    assert not (tmp_path / "run").exists()


def test_a_plan_says_that_broken_images_are_skipped(foveal, colours, quick):
    broken = sorted((colours / "val").glob("*/*"))[0]
    broken.write_bytes(b"no image")
    words = ["train", RECIPE, "--data", colours, *quick, "--dry-run"]
    assert foveal(*words).is_one_sentence(f"{broken} is not a readable image")
    said = foveal(*words, "--broken", "skip")
    assert said.code == 0
    assert f"of the 8 images of {colours / 'val'} that were looked at cannot be read" in said.error


def test_evaluating_another_split_names_it(foveal, colours, trained):
    (colours / "val").rename(colours / "test")
    words = ["evaluate", RECIPE, "--checkpoint", trained, "--data", colours, "--workers", 0, "--split", "test"]
    document = json.loads(foveal(*words, "--json").out)
    assert document["data"] == str(colours / "test")
    assert document["results"][0]["set"] == "test"


def test_the_folder_that_was_read_is_named(foveal, colours, trained):
    (colours / "val").rename(colours / "valid")
    words = ["evaluate", RECIPE, "--checkpoint", trained, "--data", colours, "--workers", 0, "--json"]
    document = json.loads(foveal(*words).out)
    assert (document["data"], document["results"][0]["set"]) == (str(colours / "valid"), "valid")


def test_a_part_of_imagenet_is_evaluated_by_released_weights(foveal, tmp_path):
    """Classes are known by their WNIDs: the fish of n01443537 is class 1 though it is the first folder."""
    import timm
    import torch

    model = timm.create_model("transnext_atto")
    with torch.no_grad():
        model.head.fc.weight.zero_()
        model.head.fc.bias.zero_()
        model.head.fc.bias[1] = 1.0  # the answer is always class 1
    torch.save(model.state_dict(), tmp_path / "released.pth")
    for name in ("n01443537", "n01484850"):
        (tmp_path / "data" / "val" / name).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(tmp_path / "data" / "val" / name / "0.png")
    words = ["--checkpoint", tmp_path / "released.pth", "--data", tmp_path / "data", "--workers", 0]
    said = foveal("evaluate", RECIPE, *words, "--json")
    (result,) = json.loads(said.out)["results"]
    assert (result["images"], result["top1"], result["classes"]) == (2, 50.0, 1000)
    assert len(result["classes_without_images"]) == 998
    assert "2 of 1,000" in foveal("evaluate", RECIPE, *words).out
