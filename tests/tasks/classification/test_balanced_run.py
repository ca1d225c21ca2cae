"""A run with balanced sampling that is stopped in the middle of an epoch ends as if it had not been."""

import pytest
import torch

from foveal.tasks.classification.preprocessing import Augmentation, Preprocessing
from foveal.tasks.classification.recipe import Recipe
from foveal.tasks.recipes import create_task
from foveal.training import TrainConfig, fit
from support.runs import leaving_in_update, lines

RECIPE = Recipe(
    name="test.unbalanced",
    summary="",
    model="test_convnext",
    fit=Preprocessing((32, 32), crop=1.0),
    augment=Augmentation(rand_augment=None, erasing=0.0, mixup=0.0, cutmix=0.0),
    train=TrainConfig(epochs=2, batch_size=4, warmup_epochs=0, workers=0, log_every=1, sampling="balanced"),
)


@pytest.fixture
def unbalanced(tmp_path, images):
    images(tmp_path / "data" / "train", {"cat": 9, "dog": 2, "eel": 1})
    images(tmp_path / "data" / "val", {"cat": 1, "dog": 1, "eel": 1})
    return tmp_path / "data"


def test_a_resumed_run_equals_the_uninterrupted_one(unbalanced, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    outcome = fit(create_task(RECIPE, unbalanced), RECIPE.train, whole)
    assert fit(leaving_in_update(create_task(RECIPE, unbalanced), 2), RECIPE.train, parts).interrupted
    resumed = fit(create_task(RECIPE, unbalanced), RECIPE.train, parts, resume=parts / "last.pt")
    assert resumed.updates == outcome.updates == 6
    assert lines(parts, "steps.jsonl") == lines(whole, "steps.jsonl")
    one, other = (torch.load(out / "last.pt")["model"] for out in (whole, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_draws_every_class_equally_often(unbalanced, tmp_path):
    """24 images in two epochs, eight of each class, though nine, two and one are there."""
    task, drawn = create_task(RECIPE, unbalanced), []
    loss = task.loss
    task.loss = lambda model, batch: drawn.extend(batch[1].tolist()) or loss(model, batch)
    fit(task, RECIPE.train, tmp_path / "run")
    assert [drawn.count(label) for label in range(3)] == [8, 8, 8]
