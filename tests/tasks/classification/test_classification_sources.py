"""Runs are identical for every image source and skip broken images on request."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from foveal.errors import FovealError
from foveal.tasks.classification.data import open_split, open_train_and_val
from foveal.tasks.classification.evaluate import EvaluationSettings, check_split, evaluate, score
from foveal.tasks.classification.network import restore
from foveal.tasks.classification.preprocessing import Augmentation, Preprocessing
from foveal.tasks.classification.recipe import Recipe
from foveal.tasks.recipes import create_task
from foveal.training import TrainConfig, fit
from foveal.training.loading import Share
from foveal.training.processes import start_processes

SPLITS = ("train", "val")
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
    """The pets dataset as shards, in the order of the folders."""
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


def test_shards_and_folders_give_the_same_metrics(pets, shards):
    assert metrics(create_task(RECIPE, shards)) == metrics(create_task(RECIPE, pets))


def test_a_run_on_shards_is_reproducible_and_its_checkpoint_can_be_evaluated(shards, tmp_path):
    first, second = (fit(create_task(RECIPE, shards), RECIPE.train, tmp_path / name) for name in "ab")
    assert first.history[0]["train_loss"] == second.history[0]["train_loss"]
    assert evaluate(restore(first.best_path), shards, workers=0).top1 == first.best


@pytest.fixture
def reversed_shards(shards):
    """The same images and class names, with reversed class indices."""
    for tar in shards.glob("*.tar"):
        with tarfile.open(tar) as old, tarfile.open(shards / "new", "w") as new:
            for member in old:
                content = old.extractfile(member).read()
                content = str(2 - int(content)).encode() if member.name.endswith(".cls") else content
                new.addfile(member, io.BytesIO(content))
        (shards / "new").rename(tar)
    (shards / "classes.txt").write_text("eel\ndog\ncat\n")
    (shards / "sizes.json").write_text(
        json.dumps({f"{split}-0.tar": len(open_split(shards, split)) for split in SPLITS})
    )
    return shards


@pytest.mark.parametrize("where", ["{}", "pipe:cat {}/val-0.tar"])
def test_classes_are_matched_by_name_and_not_by_index(pets, reversed_shards, tmp_path, where):
    outcome = fit(create_task(RECIPE, pets), RECIPE.train, tmp_path / "run")
    classifier = restore(outcome.best_path)
    found = open_split(where.format(reversed_shards), "val", classifier.fit.transform())
    check_split(classifier, found, reversed_shards)
    expected = open_split(pets, "val")
    assert (found.classes, [found[n][1] for n in range(len(found))]) == (expected.classes, expected.targets)
    assert (
        score(classifier, found, settings=EvaluationSettings(workers=0)).top1
        == evaluate(classifier, pets, workers=0).top1
    )
    if found.targets:
        assert evaluate(classifier, reversed_shards, workers=0).targets.tolist() == expected.targets


def test_val_classes_are_indexed_as_those_of_train(shards, reversed_shards, pets):
    (shards / "other").mkdir()
    (shards / "val-0.tar").rename(shards / "other" / "val-0.tar")
    (shards / "other" / "classes.txt").write_text("eel\ndog\ncat\n")
    (shards / "classes.txt").write_text("cat\ndog\neel\n")
    _, val = open_train_and_val(f"{shards}/train-0.tar::{shards}/other/val-0.tar")
    assert val.classes == ["cat", "dog", "eel"]
    assert val.targets == open_split(pets, "val").targets
    assert [val.decode(raw)[1] for raw in val.read(0)] == val.targets


def test_classes_can_be_sorted_twice(pets):
    val = open_split(pets, "val")
    val.sort_classes(["eel", "cat", "dog"])
    val.sort_classes(["dog", "eel", "cat"])
    named = [
        (val.classes[label], val.class_of(number)) for number, label in zip([0] * 3 + [1] * 3 + [2] * 3, val.targets)
    ]
    assert named == [("cat", 2)] * 3 + [("dog", 0)] * 3 + [("eel", 1)] * 3


def test_skipped_images_are_counted_and_the_rest_is_evaluated(pets, tmp_path):
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


def test_a_broken_image_of_a_remote_shard_is_skipped(pets, shards, tmp_path):
    """Its name is only known when it is read, so skipped images are identified by index."""
    outcome = fit(create_task(RECIPE, pets), RECIPE.train, tmp_path / "run")
    classifier = restore(outcome.best_path)
    whole = evaluate(classifier, pets, workers=0)
    with tarfile.open(shards / "val-0.tar") as old, tarfile.open(shards / "new", "w") as new:
        for member in old:
            content = b"broken" if member.name == "004.png" else old.extractfile(member).read()
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    (shards / "new").rename(shards / "val-0.tar")
    (shards / "sizes.json").write_text(json.dumps({"val-0.tar": 9}))
    found = evaluate(classifier, Path(f"pipe:cat {shards}/val-0.tar"), workers=0, broken="skip")
    left = [0, 1, 2, 3, 5, 6, 7, 8]
    assert found.paths == [f"pipe:cat {shards}/val-0.tar#{number}" for number in left]
    assert found.targets.tolist() == whole.targets[left].tolist()
    torch.testing.assert_close(found.probabilities, whole.probabilities[left])


def test_classes_that_turn_out_to_have_no_image_are_named_after_the_first_epoch(pets, shards, tmp_path):
    """The labels of remote shards are only known once they are read."""
    for file in (pets / "val" / "dog").iterdir():
        file.unlink()
    with tarfile.open(shards / "val-0.tar") as old, tarfile.open(shards / "new", "w") as new:
        for member in old:
            if member.name[:3] not in ("003", "004", "005"):  # the dogs
                new.addfile(member, old.extractfile(member))
    (shards / "new").rename(shards / "val-0.tar")
    (shards / "sizes.json").write_text(json.dumps({"train-0.tar": 24, "val-0.tar": 6}))
    remote = create_task(RECIPE, f"pipe:cat {shards}/train-0.tar::pipe:cat {shards}/val-0.tar")
    assert list(remote.notices) == []
    outcome = fit(remote, RECIPE.train, tmp_path / "run")
    record = outcome.history[0]
    assert (record["val_scored_classes"], record["val_classes"]) == (2, 3)
    assert list(remote.notices) == [
        "The validation set has no image of the class 'dog': the validation is over 2 of 3 classes."
    ]
    metrics(remote)
    assert len(remote.notices) == 1  # said once
    assert metrics(create_task(RECIPE, pets)).keys() == metrics(remote).keys()


def test_a_class_of_broken_images_is_named(pets):
    for file in (pets / "val" / "eel").iterdir():
        file.write_bytes(b"broken")
    task = create_task(SKIPPING, pets)
    found = metrics(task)
    assert (found["scored_classes"], found["classes"], found["skipped"]) == (2, 3, 3)
    assert "no image of the class 'eel'" in task.notices[-1]


def test_a_dataset_without_readable_images_raises_a_one_line_error(pets):
    """At the start, and where the images broke later."""
    task = create_task(SKIPPING, pets)
    for file in (pets / "val").glob("*/*.png"):
        file.write_bytes(b"broken")
    with pytest.raises(FovealError, match=r"^None of the images can be read \(the first is \S+val/cat/0\.png\)"):
        metrics(task)
    with pytest.raises(FovealError, match=r"^None of the 9 images of \S+val can be read; the first: \S+val/cat/0\.png"):
        create_task(SKIPPING, pets)


def test_a_process_may_have_only_broken_images(pets):
    """With three processes, the first one has images 0, 3 and 6."""
    for name in ("cat", "dog", "eel"):
        (pets / "val" / name / "0.png").write_bytes(b"broken")
    loader = create_task(SKIPPING, pets).validation_loader(Share(0, 3))
    assert list(loader) == []
    assert len(loader.broken) == 3


def test_an_unknown_policy_for_broken_images_is_rejected():
    with pytest.raises(FovealError, match=r"broken must be stop or skip, not 'pass'"):
        TrainConfig(broken="pass")
