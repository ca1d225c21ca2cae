"""A run does not mind where its images lie, nor a broken one where it was told to skip it."""

import tarfile
from dataclasses import replace

import pytest
import torch

from foveal.errors import FovealError
from foveal.tasks.classification.evaluate import evaluate
from foveal.tasks.classification.network import restore
from foveal.tasks.classification.preprocessing import Augmentation, Preprocessing
from foveal.tasks.classification.recipe import Recipe
from foveal.tasks.classification.task import create_task
from foveal.training import TrainConfig, fit
from foveal.training.loading import Share
from foveal.training.processes import start_processes

RECIPE = Recipe(
    name="test.pets",
    summary="colours",
    model="test_convnext",
    fit=Preprocessing((32, 32), crop=1.0),
    augment=Augmentation(rand_augment=None, color_jitter=0.0, erasing=0.0, mixup=0.0, cutmix=0.0),
    train=TrainConfig(epochs=1, batch_size=8, lr=1e-3, warmup_epochs=0, workers=0, schedule="constant"),
)
SKIPPING = replace(RECIPE, train=replace(RECIPE.train, broken="skip"))


@pytest.fixture
def shards(pets, tmp_path):
    """The pets as shards, in the folders' order."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for split in ("train", "val"):
        files = sorted((pets / split).glob("*/*.png"), key=lambda file: (file.parent.name, file.name))
        with tarfile.open(folder / f"{split}-0.tar", "w") as tar:
            for number, file in enumerate(files):
                (folder / "cls").write_text(str(["cat", "dog", "eel"].index(file.parent.name)))
                tar.add(file, f"{number:03d}.png")
                tar.add(folder / "cls", f"{number:03d}.cls")
    (folder / "classes.txt").write_text("cat\ndog\neel\n")
    return folder


def metrics(task):
    return task.evaluate(task.model.eval(), start_processes(), lambda done, total: None)


def test_shards_are_evaluated_as_the_folders_they_were_made_of(pets, shards):
    assert metrics(create_task(RECIPE, shards)) == metrics(create_task(RECIPE, pets))


def test_a_run_on_shards_is_the_same_every_time_and_its_checkpoint_evaluates(shards, tmp_path):
    first, second = (fit(create_task(RECIPE, shards), RECIPE.train, tmp_path / name) for name in "ab")
    assert first.history[0]["train_loss"] == second.history[0]["train_loss"]
    assert evaluate(restore(first.best_path), shards, workers=0).top1 == first.best


def test_skipped_images_are_counted_and_the_others_evaluated(pets, tmp_path):
    whole = metrics(create_task(RECIPE, pets))
    assert "skipped" not in whole
    (pets / "val" / "cat" / "0.png").write_bytes(b"broken")
    (pets / "train" / "dog" / "5.png").write_bytes(b"broken")
    task = create_task(SKIPPING, pets)
    first, again = metrics(task), metrics(task)
    assert first == again
    assert first["skipped"] == 1
    logits = task.model(torch.stack([image for image, _ in (task.val[n] for n in range(1, 9))]))
    targets = torch.tensor(task.val.targets[1:])
    assert first["loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, targets).item(), abs=1e-4)
    outcome = fit(task, SKIPPING.train, tmp_path / "run")
    assert outcome.history[0]["val_skipped"] == 1


def test_images_of_which_none_can_be_read_are_one_sentence(pets):
    for file in (pets / "val").glob("*/*.png"):
        file.write_bytes(b"broken")
    with pytest.raises(FovealError, match=r"^None of the images can be read, \S+val/cat/0\.png the first of them"):
        metrics(create_task(SKIPPING, pets))


def test_a_process_whose_images_are_all_broken_leaves_them_to_the_others(pets):
    """With three processes the first one has images 0, 3 and 6."""
    for name in ("cat", "dog", "eel"):
        (pets / "val" / name / "0.png").write_bytes(b"broken")
    loader = create_task(SKIPPING, pets)._validation(Share(0, 3))
    assert list(loader) == []
    assert len(loader.broken) == 3


def test_another_policy_for_broken_images_than_there_is_is_refused():
    with pytest.raises(FovealError, match=r"broken must be stop or skip, not 'pass'"):
        TrainConfig(broken="pass")
