"""Every command of docs/your-own-data.md about detection works on the layout that it is about."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import timm
import torch

from foveal.training.checkpoint import read_checkpoint
from support.coco_folders import annotation, write_split

PAGE = (Path(__file__).parents[2] / "docs" / "your-own-data.md").read_text(encoding="utf-8")
SHORTER = ["--epochs", "1", "--epoch-steps", "1", "--batch-size", "2", "--workers", "0", "--size", "64"]
BOX = (10, 12, 30, 24)
SIDE = 64
COUNT = 6
START = "tensors were loaded from"  # of the notice about the weights that a run starts from


def commands() -> list[list[str]]:
    section = PAGE.split("## Detection")[1].split("\n## ")[0]
    lines = re.findall(r"^foveal [^#\n]+", section, flags=re.MULTILINE)
    return [shlex.split(line)[1:] for line in lines]


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A folder with a data set of each layout: six images with a cat and a dog each."""
    entries = [
        annotation(number, image=1 + (number - 1) // 2, box=BOX, category=(3, 7)[number % 2])
        for number in range(1, 2 * COUNT + 1)
    ]
    made = tmp_path / "DIR"
    for split in ("train", "val"):
        write_split(made, split, entries, [(SIDE, SIDE)] * COUNT)
        place = tmp_path / "ROBOFLOW" / {"val": "valid"}.get(split, split)
        shutil.copytree(made / split, place)
        shutil.copy(made / "annotations" / f"instances_{split}.json", place / "_annotations.coco.json")
        shutil.copytree(made / split, tmp_path / "YOLO" / "images" / split)
        labels = tmp_path / "YOLO" / "labels" / split
        labels.mkdir(parents=True)
        for number in range(1, COUNT + 1):
            x, y, w, h = (value / SIDE for value in BOX)
            lines = [f"{label} {x + w / 2} {y + h / 2} {w} {h}\n" for label in (0, 1)]
            (labels / f"{number}.txt").write_text("".join(lines))
    (tmp_path / "YOLO" / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n")
    content = (made / "annotations" / "instances_train.json").read_text()
    exports = {"WHOLE": "instances.json", "LABELSTUDIO": "result.json", "CVAT": "annotations/instances_default.json"}
    for name, file in exports.items():
        shutil.copytree(made / "train", tmp_path / name / "images")
        (tmp_path / name / file).parent.mkdir(exist_ok=True)
        (tmp_path / name / file).write_text(content)
    shutil.copy(made / "val" / "1.png", tmp_path / "photo.jpg")
    shutil.copytree(made / "train", tmp_path / "FIFTYONE" / "data")
    (tmp_path / "FIFTYONE" / "labels.json").write_text(content)
    torch.save(timm.create_model("transnext_atto", num_classes=2).state_dict(), tmp_path / "backbone.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shortened(words: list[str]) -> list[str]:
    """The command with a tiny network and one update; the released weights are replaced by a file."""
    if words[0] != "train":
        return words
    start = ["--model", "transnext_atto", "--checkpoint", "backbone.pt"] if "--pretrained" in words else []
    return [*(word for word in words if word != "--pretrained"), *start, *SHORTER]


def test_every_command_works_in_order(foveal, reader):
    assert len(commands()) == 12
    for words in commands():
        said = foveal(*shortened(words))
        assert said.code == 0, (words, said.error)
        notices = [line for line in said.error.splitlines() if line.startswith("foveal: ") and START not in line]
        drawn = "--val-fraction" in words
        assert len(notices) == drawn, (words, said.error)
        assert all("drawn for validation, by class with seed 0" in line for line in notices)
    assert (reader / "found" / "photo.png").exists()


def test_evaluation_reproduces_a_run_whose_validation_images_were_drawn(foveal, reader):
    recipe, data = "shapes.retinanet_transxnet_atto", ["--data", "WHOLE"]
    assert foveal("train", recipe, *data, "--val-fraction", "0.34", "--seed", 1, *SHORTER, "--out", "run").code == 0
    best = read_checkpoint(reader / "run" / "best.pt")
    names = best["card"]["held_out"]["names"]
    assert len(names) == 2
    said = foveal("evaluate", recipe, *data, "--checkpoint", "run/best.pt", "--workers", 0, "--json")
    assert said.code == 0, said.error
    document = json.loads(said.out)
    assert (document["results"]["images"], document["set"]) == (2, "34 % drawn for validation with seed 1")
    for name, value in best["metrics"].items():
        if name.startswith("val_"):
            assert document["results"][name.removeprefix("val_")] == value
    words = ["train", recipe, *data, *SHORTER, "--out", "run", "--resume", "--seed", 1, "--val-fraction"]
    assert foveal(*words, "0.34").code == 0
    assert "was started with" in foveal(*words, "0.5").error


def test_a_dry_run_says_what_a_run_says(foveal, reader):
    file = reader / "DIR" / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["area"] = 0
    content["annotations"][1] |= {"bbox": [1, 1, 0, 3], "segmentation": []}
    for entry in content["annotations"]:
        entry["category_id"] = 3
    file.write_text(json.dumps(content))
    words = ["train", "shapes.retinanet_transxnet_atto", "--data", "DIR", "--broken", "skip", *SHORTER]
    notices = [
        "foveal: DIR/annotations/instances_train.json has a broken entry, left out here: box of zero area (annotation "
        "2 of image 1 (1.png)).",
        "foveal: DIR/annotations/instances_train.json: area missing or not above zero, computed from the mask, or from "
        "the box if there is none (annotation 1 of image 1 (1.png)).",
        "foveal: DIR/annotations/instances_train.json has no object of 1 of its 2 classes: dog.",
    ]
    for more in (["--dry-run"], ["--dry-run", "--json"], ["--out", "run"]):
        said = foveal(*words, *more)
        assert said.code == 0, said.error
        assert [line for line in said.error.splitlines() if line.startswith("foveal: ")] == notices
    assert foveal(*words[:4], *SHORTER, "--dry-run").is_one_sentence("Annotation 2 of image 1 (1.png)", "--broken skip")


def test_a_figure_says_over_how_many_classes_it_is(foveal, reader):
    for split in ("train", "val"):
        file = reader / "DIR" / "annotations" / f"instances_{split}.json"
        content = json.loads(file.read_text())
        content["categories"].append({"id": 9, "name": "eel"})
        file.write_text(json.dumps(content))
    recipe, data = "shapes.retinanet_transxnet_atto", ["--data", "DIR"]
    said = foveal("train", recipe, *data, *SHORTER, "--out", "run")
    assert said.code == 0, said.error
    assert said.error.count("has no object of 1 of its 3 classes: eel.") == 2
    metrics = read_checkpoint(reader / "run" / "best.pt")["metrics"]
    assert (metrics["val_scored_classes"], metrics["val_classes"]) == (2, 3)
    words = ["evaluate", recipe, *data, "--checkpoint", "run/best.pt", "--workers", 0]
    said = foveal(*words, "--out", "results")
    assert "6 images" in said.out.splitlines()[0]
    assert said.out.splitlines()[0].endswith("images/s, AP over 2 of 3 classes")
    assert said.out.splitlines()[-1].split() == ["eel", "(no", "object)", "-"]
    document = json.loads((reader / "results" / "results.json").read_text())
    assert document["results"]["classes_without_objects"] == ["eel"]
    assert document["results"]["scored_classes"] == document["results"]["classes"] - 1 == 2
    assert document["notices"] == ["DIR/annotations/instances_val.json has no object of 1 of its 3 classes: eel."]
