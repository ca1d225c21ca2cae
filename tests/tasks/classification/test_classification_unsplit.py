"""A folder of class folders without a split: validation images are drawn by class, written down, and used again."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from foveal.errors import FovealError
from foveal.tasks.classification.data import open_split, open_train_and_val
from foveal.tasks.classification.evaluate import evaluate
from foveal.tasks.classification.int8 import CalibrationImages
from foveal.tasks.classification.network import restore
from foveal.tasks.classification.recipes import get_recipe
from foveal.tasks.held_out import HeldOut
from foveal.tasks.recipes import create_task, plan_recipe
from foveal.training import fit


@pytest.fixture
def zoo(tmp_path, images) -> Path:
    images(tmp_path / "zoo", {"cat": 20, "dog": 10, "eel": 2, "fox": 1})
    return tmp_path / "zoo"


@pytest.fixture
def recipe():
    quick = dict(epochs=1, batch_size=8, warmup_epochs=0, workers=0, val_fraction=0.2, seed=3)
    return get_recipe("digits.transnext_atto").with_model("test_convnext").with_training(**quick)


def test_each_class_gives_its_share_and_no_image_is_in_both_parts(zoo):
    train, val = open_train_and_val(zoo, val_fraction=0.2)
    count = Counter(val.classes[target] for target in val.targets)
    assert count == {"cat": 4, "dog": 2, "eel": 1}
    assert not set(train.names) & set(val.names)
    assert sorted(train.names + val.names) == sorted(map(str, zoo.glob("*/*.png")))
    assert [Path(name).parent.name for name in val.names] == [val.classes[target] for target in val.targets]
    assert "7 of the 33 images" in val.notices[0]
    assert "no image of the class 'fox'" in val.notices[1]


def test_the_draw_is_the_same_every_time_and_another_with_another_seed(zoo, tmp_path):
    first = open_train_and_val(zoo, 0.2)[1].held_out
    moved = zoo.rename(tmp_path / "elsewhere")
    assert open_train_and_val(moved, 0.2)[1].held_out == first
    assert open_train_and_val(moved, 0.2, seed=1)[1].held_out.names != first.names


def test_training_images_without_validation_images_are_drawn_from(zoo, tmp_path):
    zoo.rename(tmp_path / "train")
    train, val = open_train_and_val(tmp_path, 0.2)
    assert (len(train), len(val)) == (26, 7)
    assert val.held_out.names[0].startswith("cat/")


def test_a_folder_without_a_split_names_both_ways_out(zoo, tmp_path):
    with pytest.raises(FovealError, match=r"val/: put the images into .*/train/<class>/ and .* or pass --val-fraction"):
        open_train_and_val(zoo)
    zoo.rename(tmp_path / "train")
    with pytest.raises(FovealError, match=r"val/: put validation images into \S+/val/<class>/, or pass --val-fraction"):
        open_train_and_val(tmp_path)
    (tmp_path / "train" / "eel").rename(tmp_path / "Dev")
    (tmp_path / "Dev" / "eel").mkdir()
    with pytest.raises(FovealError, match=r"/val/<class>/, rename Dev/ to val/, or pass --val-fraction 0\.2"):
        open_train_and_val(tmp_path)


# Which folders are classes


def test_a_split_beside_class_folders_is_no_class_and_is_named(zoo, images):
    images(zoo / "Test", {"cat": 2, "dog": 1})
    train, val = open_train_and_val(zoo, 0.2)
    assert train.classes == ["cat", "dog", "eel", "fox"]
    assert (len(train), len(val)) == (26, 7)
    left_out = f"{zoo}/Test is a split and no class, since it has class folders itself; it is left out."
    assert left_out in train.notices
    assert left_out in val.notices
    assert len(open_split(zoo, "test", held_out=val.held_out)) == 3


def test_what_is_beside_the_training_images_is_named(zoo, tmp_path, images):
    zoo.rename(tmp_path / "Train")
    images(tmp_path / "test", {"cat": 2})
    train, _ = open_train_and_val(tmp_path, 0.2)
    assert (train.classes, len(train)) == (["cat", "dog", "eel", "fox"], 26)
    assert train.notices == [f"{tmp_path}/Train is read, and not what is beside it: test/."]


@pytest.mark.parametrize("name", ["train", "val", "Test", "images"])
def test_a_class_may_be_called_as_a_split_if_the_others_are_not(tmp_path, images, name):
    """Photographs of trains, with buses and cars."""
    images(tmp_path, {"bus": 5, "car": 5, name: 5})
    with pytest.raises(FovealError, match=r"has no folder val/.* --val-fraction 0\.2"):
        open_train_and_val(tmp_path)
    train, val = open_train_and_val(tmp_path, 0.2)
    assert train.classes == val.classes == sorted(["bus", "car", name])
    assert (len(train), len(val)) == (12, 3)
    said = f"{tmp_path / name} is read as the class '{name}', since it has images but no class folders."
    assert (said in train.notices) == (name != "images")


def test_a_class_may_be_called_as_a_split_within_a_split(tmp_path, images):
    for split in ("train", "val"):
        images(tmp_path / split, {"bus": 2, "train": 2})
    train, val = open_train_and_val(tmp_path)
    assert train.classes == val.classes == ["bus", "train"]


@pytest.mark.parametrize(
    ("folders", "advice"),
    [
        (("images", "masks"), "or choose a recipe for detection or segmentation"),
        (("JPEGImages", "SegmentationClass"), "or choose a recipe for detection or segmentation"),
        (("test2017", "train2017"), "put the images of each class into"),
        (("images/cat", "images/dog"), r"or pass --data \S+/images if its folders are the classes"),
    ],
)
@pytest.mark.parametrize("fraction", [None, 0.2])
def test_folders_of_other_tasks_and_splits_are_no_classes(tmp_path, images, folders, advice, fraction):
    images(tmp_path, dict.fromkeys(folders, 3))
    with pytest.raises(FovealError, match=rf"has no class folders, only {folders[0].split('/')[0]}/.*{advice}"):
        open_train_and_val(tmp_path, fraction)


def test_folders_of_other_tasks_within_splits_are_no_classes(tmp_path, images):
    """Label maps in one of the layouts of segmentation."""
    for split in ("train", "val"):
        images(tmp_path / split, {"images": 2, "masks": 2})
    with pytest.raises(FovealError, match=r"train has no class folders, only images/, masks/: .* recipe for detection"):
        open_train_and_val(tmp_path)


@pytest.mark.parametrize("name", ["val", "valid", "Val", "VALIDATION"])
def test_a_fraction_of_a_folder_with_a_split_is_refused(pets, name):
    (pets / "val").rename(pets / name)
    with pytest.raises(FovealError, match=rf"has validation images in {name}/: leave --val-fraction out"):
        open_train_and_val(pets, 0.2)


def test_a_fraction_of_other_sources_is_refused(tmp_path):
    (tmp_path / "dataset_dict.json").write_text("{}")
    with pytest.raises(FovealError, match="--val-fraction is for class folders without a split"):
        open_train_and_val(tmp_path, 0.2)


def test_a_run_writes_the_drawn_images_down_and_evaluation_uses_them(zoo, recipe, images, tmp_path):
    task = create_task(recipe, zoo)
    outcome = fit(task, recipe.train, tmp_path / "run")
    drawn = HeldOut.of(torch.load(outcome.best_path, weights_only=True)["card"])
    assert (drawn.fraction, drawn.seed, len(drawn.names)) == (0.2, 3, 7)
    classifier = restore(outcome.best_path)
    before = evaluate(classifier, zoo, workers=0)
    assert before.paths == [str(zoo / name) for name in drawn.names]
    assert before.loss == pytest.approx(outcome.history[0]["val_loss"], abs=1e-5)
    images(zoo, {"cat": 30}, seed=9)  # more images do not change which are for validation
    assert evaluate(classifier, zoo, workers=0).paths == before.paths
    found = CalibrationImages.find(zoo, zoo / "val", 8, held_out=classifier.held_out)
    assert found.of_training
    assert not set(found.images.names) & set(before.paths)


def test_evaluation_goes_on_with_the_held_out_images_that_are_left(zoo, images):
    """Others were removed, and an empty class was added."""
    drawn = open_train_and_val(zoo, 0.2)[1].held_out
    for name in (drawn.names[2], drawn.names[5]):
        (zoo / name).unlink()
    (zoo / "gnu").mkdir()
    val = open_split(zoo, "val", held_out=drawn)
    assert val.names == [str(zoo / name) for number, name in enumerate(drawn.names) if number not in (2, 5)]
    assert val.notices[0] == drawn.missing_notice([name for name in drawn.names if (zoo / name).exists()], zoo)
    for name in drawn.names:
        (zoo / name).unlink(missing_ok=True)
    with pytest.raises(FovealError, match="has none of the 7 images that training held out for validation"):
        open_split(zoo, "val", held_out=drawn)


def test_a_validation_split_that_was_added_later_is_evaluated_and_named(zoo, images):
    drawn = open_train_and_val(zoo, 0.2)[1].held_out
    images(zoo / "val", {"cat": 1, "dog": 2})
    val = open_split(zoo, "val", held_out=drawn)
    assert (len(val), val.held_out) == (3, None)
    assert val.notices == [
        f"{zoo}/val is evaluated, and not the images that training held out for validation, since such a folder is "
        "there now."
    ]


def test_a_run_is_resumed_with_the_same_draw(zoo, recipe, tmp_path):
    longer = recipe.with_training(epochs=1)
    fit(create_task(longer, zoo), longer.train, tmp_path / "run")
    last = tmp_path / "run" / "last.pt"
    fit(create_task(longer, zoo), longer.train, tmp_path / "run", resume=last)
    other = replace(longer, train=replace(longer.train, val_fraction=0.3))
    with pytest.raises(FovealError, match="was started with"):
        fit(create_task(other, zoo), other.train, tmp_path / "run", resume=last)


def test_a_plan_counts_the_images_that_are_trained_on(zoo, recipe):
    plan = plan_recipe(recipe, zoo)
    assert plan.images.count == 26
    assert "7 of the 33 images" in plan.images.notices[0]


def test_other_splits_of_the_folder_can_still_be_opened(zoo, tmp_path, images):
    drawn = open_train_and_val(zoo, 0.2)[1].held_out
    images(tmp_path / "data" / "train", {"cat": 1, "dog": 1})
    images(tmp_path / "data" / "test", {"cat": 3})
    assert len(open_split(tmp_path / "data", "test", held_out=drawn)) == 3
