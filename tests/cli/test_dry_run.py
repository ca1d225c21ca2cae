"""``foveal train --dry-run``: the complete plan, without side effects."""

import json
import re

import pytest
import torch
from PIL import Image

from foveal.tasks.recipes import get_recipe
from foveal.tasks.registry import TASKS, task_class
from foveal.training.run import set_up

ATTO = "digits.transnext_atto"
OPEN = Image.open


@pytest.fixture
def untouched(tmp_path, monkeypatch):
    """An empty working directory that must stay empty; opening an image fails."""

    def refuse(file, *words, **options):
        raise AssertionError(f"{file} was opened")

    monkeypatch.setattr(Image, "open", refuse)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("FOVEAL_CACHE", str(here / "cache"))
    yield here
    assert list(here.iterdir()) == []


def test_an_imagenet_recipe_needs_no_data(foveal, untouched):
    said = foveal("train", "imagenet.transnext_micro", "--dry-run", "--processes", "8", "--model", "transnext_atto")
    assert said.code == 0
    assert "1,281,167 images (ImageNet-1K)" in said.out
    assert "1,024 = 8 processes x 128 images x 1 pass" in said.out
    assert "300 + 10 epochs of 1,251 updates: 387,810 in all" in said.out
    assert max(map(len, said.out.splitlines())) <= 80


def test_fine_tuning_shows_its_layers_and_accepts_a_number_of_images(foveal, untouched):
    said = foveal("train", "finetune.test_convnext", "--dry-run", "--images", "640", "--size", "64")
    assert said.code == 0
    assert "640 images (as given)" in said.out
    assert "30 epochs of 10 updates: 300 in all" in said.out
    assert re.search(r"^  head +\d+ +[\d,]+ +1$", said.out, re.MULTILINE)
    assert max(map(len, said.out.splitlines())) <= 80


def test_of_local_images_that_are_counted_eight_of_each_set_are_opened(foveal, colours, untouched, quick, monkeypatch):
    """There are 24 for training and 12 for validation."""
    opened = []
    monkeypatch.setattr(Image, "open", lambda file, **how: OPEN(opened.append(file) or file, **how))
    said = foveal("train", ATTO, "--dry-run", "--data", colours, *quick)
    assert said.code == 0, said.error
    assert re.search(r"\b24 images \(", said.out)
    assert len(opened) == 16


def test_json_lists_every_parameter_and_epoch(foveal, untouched):
    said = foveal("train", ATTO, "--dry-run", "--json")
    plan = json.loads(said.out)
    assert sum(p["count"] for p in plan["parameters"]) == plan["params"]
    assert {p["rule"] for p in plan["parameters"]} == {
        "weights", "biases", "norms and other vectors", "in the model's no_weight_decay()",
    }  # fmt: skip
    assert len(plan["epoch_rates"]) == 20
    assert plan["steps"] == 20 * 23  # 1,438 images fill 22 batches of 64 and, with those of the next pass, a 23rd
    assert plan["memory"]["total"] > plan["memory"]["weights"] == 4 * plan["params"]


def test_the_plan_matches_the_run(foveal, colours, quick, tmp_path, monkeypatch):
    words = ["train", ATTO, "--data", colours, *quick]
    plan = json.loads(foveal(*words, "--dry-run", "--json").out)
    runs = []
    monkeypatch.setattr("foveal.training.loop.set_up", lambda *words: runs.append(set_up(*words)) or runs[0])
    foveal(*words, "--out", tmp_path / "run")
    run = runs[0]
    assert (plan["steps_per_epoch"], plan["images"]["count"]) == (run.steps_per_epoch, run.task.train_size)
    assert plan["params"] == sum(p.numel() for p in run.model.parameters())
    history = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert plan["steps"] == history[-1]["step"]
    groups = {id(p): group["weight_decay"] for group in run.optimizer.param_groups for p in group["params"]}
    assert {p["name"]: p["weight_decay"] for p in plan["parameters"]} == {
        name: groups[id(p)] for name, p in run.model.named_parameters()
    }


def test_a_plan_shows_the_schedule_that_fits_the_run(foveal, untouched):
    """480 images are 30 updates an epoch; the published warm-up is 500 updates."""
    words = ["train", "coco.retinanet_transxnet_t", "--dry-run", "--images", "480"]
    said = foveal(*words)
    assert said.code == 0, said.error
    assert "12 epochs of 30 updates: 360 in all" in said.out
    assert "The warm-up takes 120 updates instead of 500: half of the" in said.out
    rows = re.findall(r"^  (first update|warm-up over|times 0.1|last update) +\S+ +(\d+) +(\S+)$", said.out, re.M)
    assert rows == [
        ("first update", "0", "1.000e-07"), ("warm-up over", "120", "1.000e-04"), ("times 0.1", "240", "1.000e-05"),
        ("times 0.1", "330", "1.000e-06"), ("last update", "359", "1.000e-06"),
    ]  # fmt: skip
    assert max(map(len, said.out.splitlines())) <= 80
    plan = json.loads(foveal(*words, "--json").out)
    assert plan["config"]["warmup_steps"] == 120
    assert len(plan["notices"]) == 1


def test_a_plan_shows_what_becomes_of_images_that_fill_no_batch(foveal, untouched):
    """240 images are three batches of 64 and 48 images, or a batch of 1,024 and 76 of 1,100."""
    words = ["train", ATTO, "--dry-run", "--images", "240"]
    assert "the last batch of an epoch is filled with 16 of the next pass" in foveal(*words).out
    plan = json.loads(foveal(*words, "--json").out)
    assert (plan["steps_per_epoch"], plan["filled"], plan["left_out"]) == (4, 16, 0)
    words = ["train", "imagenet.transnext_micro", "--dry-run", "--images", "1100", "--model", "transnext_atto"]
    assert "Each epoch leaves out 76 of the 1,100 images" in foveal(*words).out
    plan = json.loads(foveal(*words, "--json").out)
    assert (plan["steps_per_epoch"], plan["filled"], plan["left_out"]) == (1, 0, 76)


def test_a_plan_in_updates_says_how_many_passes_they_are(foveal, untouched):
    words = ["train", "ade20k.semantic_fpn_transxnet_t", "--dry-run", "--images", "320"]
    assert "8e+03 passes over the training set" not in (said := foveal(*words)).out
    assert "8,000 passes over the training set" in said.out


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["finetune.transnext_atto", "--dry-run"], ["--data DIR", "--images"]),
        ([ATTO, "--dry-run", "--processes", "0"], ["--processes must be at least 1"]),
        ([ATTO, "--dry-run", "--images", "0"], ["--images must be at least 1"]),
        ([ATTO, "--dry-run", "--images", "10"], ["10 images, fewer than one batch of 64"]),
        ([ATTO, "--dry-run", "--processes", "7"], ["shared evenly by 7 processes", "--batch-size 63 or 70"]),
        ([ATTO, "--dry-run", "--device-batch-size", "5"], ["--device-batch-size with one of 1, 2, 4"]),
        (["imagenet.transnext_micro", "--dry-run", "--device-batch-size", "1"], ["Mixup pairs", "even"]),
        ([ATTO, "--images", "10"], ["belong to --dry-run"]),
    ],
)  # fmt: skip
def test_an_invalid_plan_prints_a_one_line_error(foveal, untouched, words, parts):
    said = foveal("train", *words)
    assert said.code in (1, 2)
    assert said.is_one_sentence(*parts)


SMALL = {
    "classification": ATTO,
    "detection": "shapes.retinanet_transxnet_atto",
    "segmentation": "shapes.semantic_fpn_transxnet_atto",
}


def write_weights(path, name, num_classes=3, **model):
    recipe = get_recipe(name).with_model(**model) if model else get_recipe(name)
    _, net = task_class(recipe.kind).create_model(recipe, num_classes)
    torch.save({"model": net.state_dict()}, path)
    return path


@pytest.mark.parametrize("kind", TASKS)
def test_a_plan_compares_the_weights_to_start_from_with_the_network(foveal, tmp_path, kind):
    path = write_weights(tmp_path / "weights.pt", SMALL[kind])
    words = ["train", SMALL[kind], "--dry-run", "--images", "640", "--checkpoint", path]
    said, plan = foveal(*words), json.loads(foveal(*words, "--json").out)
    assert (said.code, said.error) == (0, "")
    loaded, new = plan["start"]["loaded"], plan["start"]["new"]
    text = " ".join(line.strip() for line in said.out.splitlines())
    assert re.search(rf"starts from +{len(loaded)} tensors would be loaded from {path}, .* would begin anew", text)
    assert len(loaded) > 9 * len(new) > 0  # the file has three classes
    assert (plan["start"]["wrapper"], plan["start"]["beside"]) == (["model"], [])


@pytest.mark.parametrize("as_json", [[], ["--json"]])
@pytest.mark.parametrize("kind", TASKS)
def test_a_plan_refuses_the_weights_that_training_refuses(foveal, tmp_path, kind, as_json):
    """A file that is not there, one of another network, and one of NaN; the sentence is that of training."""
    other = {"classification": SMALL["segmentation"]}.get(kind, ATTO)
    broken = torch.load(write_weights(tmp_path / "broken.pt", SMALL[kind]))
    broken["model"][next(iter(broken["model"]))].fill_(float("nan"))
    torch.save(broken, tmp_path / "broken.pt")
    for path, part in (
        (tmp_path / "missing.pth", "missing.pth does not exist"),
        (write_weights(tmp_path / "other.pt", other), "other.pt holds a Trans"),
        (tmp_path / "broken.pt", "broken.pt holds NaN in"),
    ):
        said = foveal("train", SMALL[kind], "--dry-run", "--images", "640", "--checkpoint", path, *as_json)
        assert said.code == 1
        assert said.is_one_sentence(part)


def test_a_plan_reads_tables_of_another_image_size(foveal, tmp_path):
    """TransXNet's position tables are resized, also if the network is on the meta device."""
    path = write_weights(tmp_path / "weights.pt", ATTO, model="transxnet_atto")
    words = ["train", ATTO, "--dry-run", "--images", "640", "--checkpoint", path, "--model", "transxnet_atto"]
    said = foveal(*words, "--size", "96")
    assert said.code == 0, said.error


def test_a_plan_knows_whether_there_are_released_weights_without_fetching_them(foveal, untouched, monkeypatch):
    monkeypatch.setattr("torch.hub.download_url_to_file", None)
    said = foveal("train", "finetune.transnext_micro", "--dry-run", "--images", "640", "--pretrained")
    assert said.code == 0, said.error
    assert re.search(r"starts from +\d+ tensors would be loaded from the released weights", said.out)
    said = foveal("train", ATTO, "--dry-run", "--pretrained")
    assert said.is_one_sentence("transnext_atto has no released weights: pass --checkpoint FILE.")
    said = foveal("train", ATTO, "--dry-run", "--pretrained", "--checkpoint", __file__)
    assert said.is_one_sentence("--checkpoint and --pretrained both name the weights")


def test_plans_of_recipes_for_ones_own_images_are_documents(foveal):
    for name, images in (
        ("photos.test_convnext", 40),
        ("finetune.test_convnext", 40),
        ("finetune.upernet_resnet18", 40),
    ):
        plan = json.loads(foveal("train", name, "--dry-run", "--images", images, "--json").out)
        assert plan["recipe"]["name"] == name
        assert plan["images"]["count"] == 40
        assert plan["config"]["batch_size"] <= 40 / 4


def test_a_device_batch_cannot_be_found_where_memory_depends_on_the_images(foveal):
    said = foveal("train", "shapes.retinanet_transxnet_atto", "--device-batch-size", "auto", "--dry-run")
    assert said.is_one_sentence("depends on the content of the images: pass a number as --device-batch-size")
