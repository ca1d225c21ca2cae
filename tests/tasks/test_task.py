"""A complete custom task, written here as a single class, is created, planned and trained like the built-in ones."""

import sys
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from foveal.errors import FovealError
from foveal.models.weights_file import WeightsFile
from foveal.tasks import registry
from foveal.tasks.plan import PlannedNetwork, TrainingSet
from foveal.tasks.recipe import BaseRecipe
from foveal.tasks.recipes import create_task, described_recipe, get_recipe, list_recipes, plan_recipe
from foveal.tasks.registry import TASKS, check_kind, noun, recipes_of, task_class
from foveal.tasks.task import Task
from foveal.training import fit
from foveal.training.checkpoint import read_checkpoint
from foveal.training.config import TrainConfig


class Slopes(Dataset):
    """Images whose brightness is the regression target."""

    classes: ClassVar = ["brightness"]
    notices = ()

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return torch.full((3, 8, 8), index / self.count), torch.tensor([index / self.count])


@dataclass(frozen=True, kw_only=True)
class BrightnessRecipe(BaseRecipe):
    kind: ClassVar[str] = "brightness"


class BrightnessTask(Task[BrightnessRecipe]):
    kind = "brightness"
    monitor = "error"
    higher_is_better = False
    mixes = False
    starts_from = "trained weights"
    layout = "with DIR/train and DIR/val"
    own_images: ClassVar = {}
    known_sets: ClassVar = {"slopes": TrainingSet(16, 1, "slopes")}
    default_classes = 1

    @classmethod
    def build(cls, recipe, num_classes, pretrained):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))

    @classmethod
    def load_start(cls, model, checkpoint):
        raise AssertionError("nothing to start from was given")

    @classmethod
    def open_images(cls, recipe, data):
        return (Slopes(int(data)), Slopes(4)) if data else (Slopes(16), Slopes(4))

    def loss(self, model, batch):
        images, targets = batch
        loss = (model(images) - targets).square().mean()
        return loss, {"squared": loss.detach()}

    @torch.no_grad()
    def evaluate(self, model, processes, on_batch):
        loader = self.validation_loader(processes.share)
        errors = [(model(images) - targets).abs().mean().item() for images, targets in loader]
        return {"error": sum(errors) / len(errors)}

    def own_metadata(self):
        return {"unit": "1"}

    @classmethod
    def described(cls, metadata):
        return BrightnessRecipe(name=metadata["recipe"], summary="", model=metadata["model"], train=TrainConfig())

    @classmethod
    def restore(cls, path, recipe=None, *, size=None):
        model = cls.build(recipe, 1, False)
        model.load_state_dict(WeightsFile.open(path).state)
        return model.eval()

    @classmethod
    def planned_network(cls, recipe, model, images):
        return PlannedNetwork(size=(8, 8), params=sum(p.numel() for p in model.parameters()), macs=3)


RECIPE = BrightnessRecipe(
    name="slopes.linear",
    summary="",
    model="linear",
    train=TrainConfig(epochs=2, batch_size=4, lr=0.1, warmup_epochs=0, workers=0, log_every=1),
)


@pytest.fixture(autouse=True)
def fourth(monkeypatch):
    """Register the task, with this module as its ``task.py``."""
    monkeypatch.setitem(TASKS, "brightness", registry.Entry("light meter", "fourth", "BrightnessTask"))
    monkeypatch.setitem(sys.modules, "fourth.task", sys.modules[__name__])


def test_the_task_is_trained_evaluated_and_saved_with_its_metadata(tmp_path):
    outcome = fit(create_task(RECIPE), RECIPE.train, tmp_path)
    assert (outcome.updates, outcome.monitor) == (8, "error")
    metadata = read_checkpoint(tmp_path / "best.pt")["card"]
    assert metadata == {
        "task": "brightness",
        "recipe": "slopes.linear",
        "model": "linear",
        "model_args": {},
        "classes": ["brightness"],
        "drop_path": 0.0,
        "unit": "1",
    }
    restored, image = task_class("brightness").restore(tmp_path / "best.pt"), torch.rand(2, 3, 8, 8)
    weights = read_checkpoint(tmp_path / "best.pt")["model"]
    assert torch.equal(restored(image), nn.functional.linear(image.mean((2, 3)), *weights.values()))


def test_the_recipe_of_a_file_is_the_named_one_or_follows_from_its_metadata(tmp_path):
    outcome = fit(create_task(RECIPE), RECIPE.train, tmp_path)
    card = read_checkpoint(outcome.best_path)["card"]
    assert described_recipe(card) == replace(RECIPE, train=TrainConfig())
    named = {"task": "classification", "recipe": "digits.transnext_atto", "model": "resnet18"}
    assert described_recipe(named) == get_recipe("digits.transnext_atto")


def test_initialisation_is_determined_by_the_seed():
    first, second = (create_task(RECIPE).model[2].weight for _ in range(2))
    other = create_task(RECIPE.with_training(seed=1)).model[2].weight
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("words", "count", "source"), [({}, 16, "slopes"), ({"images": 40}, 40, "as given")])
def test_the_plan_counts_images_and_updates(words, count, source):
    plan = plan_recipe(RECIPE, **words)
    assert (plan.images.count, plan.images.source, plan.network.params) == (count, source, 4)
    assert plan.run.steps == 2 * count // 4


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (dict(images=0), "--images must be at least 1, not 0"),
        (dict(images=4, data="8"), "--images and --data both give the number of images: pass one of them"),
        (dict(processes=0), "--processes must be at least 1, not 0"),
    ],
    ids=["none", "twice", "no process"],
)
def test_invalid_plan_options_raise_a_one_line_error(words, sentence):
    with pytest.raises(FovealError, match=sentence):
        plan_recipe(RECIPE, **words)


def test_data_is_required_if_the_recipe_has_none():
    recipe = replace(RECIPE, name="mine.linear")
    with pytest.raises(FovealError, match=r"mine.linear trains on your own images: pass --data DIR to count them"):
        plan_recipe(recipe)
    with pytest.raises(FovealError, match=r"mine.linear needs images: pass --data DIR with DIR/train and DIR/val\."):
        BrightnessTask.data_folder(recipe, None)


def test_the_registry_has_the_task_of_every_recipe():
    assert {recipe.kind for recipe in list_recipes()} == TASKS.keys() - {"brightness"}
    for kind in TASKS.keys() - {"brightness"}:
        assert task_class(kind).kind == kind
        assert all(make().kind == kind for make in recipes_of(kind).values())


def test_a_checkpoint_of_another_task_raises_a_one_line_error(tmp_path):
    check_kind({"model": "resnet18"}, tmp_path, "classification")  # from before checkpoints named their task
    with pytest.raises(FovealError, match=r"holds a detector \(dino\), not a classifier: pass the recipe"):
        check_kind({"task": "detection", "detector": "dino", "model": "x"}, tmp_path, "classification")
    with pytest.raises(FovealError, match=r"holds a network for depth \(x\), not a segmenter"):
        check_kind({"task": "depth", "model": "x"}, tmp_path, "segmentation")
    assert noun("brightness") == "light meter"
