"""Images with several labels on the command line: train, evaluate, predict and export."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

RECIPE = "photos.test_convnext"
LABELS = ("blue", "green", "red")


def write(folder, split, count, seed):
    """Grey noise with the channels of an image's labels raised."""
    draw = np.random.default_rng(seed)
    rows = ["file,labels"]
    for number in range(count):
        labels = [label for label in LABELS if draw.random() < 0.5]
        pixels = draw.integers(0, 60, (20, 30, 3))
        for label in labels:
            pixels[..., 2 - LABELS.index(label)] += 150
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{split}{number}.png")
        rows.append(f"{split}{number}.png,{' '.join(labels)}")
    (folder / f"{split}.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    write(folder, "train", 48, 0)
    write(folder, "val", 16, 1)
    return folder


@pytest.fixture
def quick():
    shape = ["--size", "32", "--epochs", "6", "--batch-size", "8"]
    return [*shape, "--lr", "5e-3", "--workers", "0", "--augment", "none"]


@pytest.fixture
def best(foveal, mixed, quick, tmp_path_factory):
    """The ``best.pt`` of a run, which is trained once."""
    out = mixed.parent / "mixed-run"
    if not out.exists():
        said = foveal("train", RECIPE, "--data", mixed, "--out", out, *quick)
        assert said.code == 0, said.error
        assert "Best mAP " in said.out
    return out / "best.pt"


def test_training_is_selected_by_mean_average_precision(best):
    lines = [json.loads(line) for line in (best.parent / "metrics.jsonl").read_text().splitlines()]
    assert max(line["val_map"] for line in lines) > 95
    assert {"val_f1", "val_loss", "train_f1"} <= lines[0].keys()


def test_evaluation_agrees_with_the_run(foveal, mixed, best):
    said = foveal("evaluate", "--data", mixed, "--checkpoint", best, "--json", "--workers", "0")
    found = json.loads(said.out)
    lines = [json.loads(line) for line in (best.parent / "metrics.jsonl").read_text().splitlines()]
    top = max(lines, key=lambda line: line["val_map"])
    assert (found["map"], found["f1"]) == pytest.approx((top["val_map"], top["val_f1"]))
    assert [one["class"] for one in found["by_class"]] == [*LABELS]
    assert found["map"] == pytest.approx(np.mean([one["average_precision"] for one in found["by_class"]]))


def test_the_report_of_a_run_has_the_average_precision_of_every_label(foveal, mixed, best):
    found = json.loads(foveal("evaluate", "--data", mixed, "--checkpoint", best, "--json", "--workers", "0").out)
    page = (best.parent / "report.html").read_text(encoding="utf-8")
    table = page.partition("Average precision by label")[2].partition("</table>")[0]
    for one in found["by_class"]:
        (row,) = [row for row in table.split("<tr>") if f">{one['class']}<" in row]
        assert f"{one['average_precision']:.2f} %" in row
        assert f">{one['images']}<" in row


def test_evaluation_shows_and_writes_classes(foveal, mixed, best, tmp_path):
    out = tmp_path / "evaluated"
    words = ["evaluate", RECIPE, "--data", mixed, "--checkpoint", best, "--out", out, "--workers", "0"]
    said = foveal(*words)
    assert said.code == 0, said.error
    assert "mAP" in said.out
    assert "blue" in said.out
    with (out / "classes.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["class", "images", "average_precision_percent"]
    assert [row[0] for row in rows[1:]] == [*LABELS]
    assert "had been finished before" in foveal(*words).error


@pytest.mark.parametrize("words", [["--mode", "linear"], ["--paper"], ["--precision", "int8"], ["--multi-scale"]])
def test_options_for_one_class_per_image_are_refused(foveal, mixed, best, words):
    said = foveal("evaluate", "--data", mixed, "--checkpoint", best, *words)
    assert said.code == 2
    assert said.is_one_sentence("is for one class per image", "leave it out")


def test_class_folders_are_refused(foveal, colours, best):
    said = foveal("evaluate", "--data", colours, "--checkpoint", best)
    assert said.is_one_sentence("gives several labels per image", "pass the --data with val.csv")


def test_prediction_gives_all_labels_above_a_half(foveal, mixed, best):
    said = foveal("predict", mixed, "--checkpoint", best, "--json", "--workers", "0")
    answers = {one["path"].rpartition("/")[2]: one["guesses"] for one in json.loads(said.out)}
    with (mixed / "val.csv").open() as file:
        expected = {row["file"]: set(row["labels"].split()) for row in csv.DictReader(file)}
    right = [{guess["name"] for guess in answers[name]} == labels for name, labels in expected.items()]
    assert np.mean(right) > 0.8
    assert all(guess["probability"] > 0.5 for guesses in answers.values() for guess in guesses)


def test_an_image_without_a_label_says_so(foveal, best, tmp_path):
    black = tmp_path / "black.png"
    Image.new("RGB", (30, 20)).save(black)
    assert foveal("predict", black, "--checkpoint", best).out.splitlines() == [str(black), "  no label"]
    table = tmp_path / "answers.csv"
    foveal("predict", black, "--checkpoint", best, "--out", table)
    assert table.read_text().splitlines() == ["path,rank,class,probability", f"{black},,,"]


def test_top_k_gives_that_many_whatever_their_probability(foveal, best, tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "black.png")
    said = foveal("predict", tmp_path / "black.png", "--checkpoint", best, "--json", "--top-k", "2")
    guesses = json.loads(said.out)[0]["guesses"]
    assert len(guesses) == 2
    assert sum(guess["probability"] for guess in guesses) < 1


def test_an_exported_file_gives_the_same_labels(foveal, mixed, best, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    file = tmp_path / "labels.onnx"
    said = foveal("export", "--checkpoint", best, "--out", file)
    assert said.code == 0, said.error
    images = [mixed / "val0.png", mixed / "val1.png", mixed / "val2.png"]
    ours, theirs = (json.loads(foveal("predict", *images, "--checkpoint", one, "--json").out) for one in (best, file))
    for one, other in zip(ours, theirs, strict=True):
        assert [guess["name"] for guess in one["guesses"]] == [guess["name"] for guess in other["guesses"]]
        probabilities = [[guess["probability"] for guess in answer["guesses"]] for answer in (one, other)]
        assert probabilities[1] == pytest.approx(probabilities[0], abs=1e-3)


def test_a_run_with_mixup_and_weights_holds_images_out(foveal, mixed, quick, tmp_path):
    folder = tmp_path / "unsplit"
    shutil.copytree(mixed, folder)
    (folder / "val.csv").unlink()
    words = ["train", RECIPE, "--data", folder, "--out", tmp_path / "run", *quick, "--epochs", "2"]
    said = foveal(*words, "--mixup", "0.4", "--class-weights", "balanced", "--label-smoothing", "0.1")
    assert said.code == 0, said.error
    assert "are held out for validation" in said.error
    found = foveal("evaluate", "--data", folder, "--checkpoint", tmp_path / "run" / "best.pt", "--json")
    assert json.loads(found.out)["images"] == pytest.approx(10, abs=2)


def test_balanced_sampling_is_refused(foveal, mixed, quick, tmp_path):
    said = foveal("train", RECIPE, "--data", mixed, "--out", tmp_path / "run", *quick, "--sampling", "balanced")
    assert said.is_one_sentence("--sampling balanced is not for images with several labels", "--class-weights")


def test_the_evidence_of_a_label_has_its_own_probability(foveal, mixed, best, tmp_path):
    """A sigmoid: the probabilities of two labels add up to more than 1."""
    with (mixed / "val.csv").open() as file:
        name = next(row["file"] for row in csv.DictReader(file) if {"blue", "red"} <= set(row["labels"].split()))
    words = ["explain", mixed / name, "--checkpoint", best, "--what", "gradcam", "--classes", "blue", "red", "--json"]
    said = foveal(*words, "--out", tmp_path / "seen")
    assert said.code == 0, said.error
    shown = json.loads(said.out)["pictures"][0]["shown"]
    assert [one["class"] for one in shown] == ["blue", "red"]
    assert sum(one["probability"] for one in shown) > 1
