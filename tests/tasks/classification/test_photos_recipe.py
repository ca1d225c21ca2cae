"""``photos.MODEL``: settings that follow from the number of images, unless they are asked for."""

import numpy as np
import pytest
import torch
from PIL import Image

from foveal.errors import FovealError
from foveal.tasks.classification.photos import photos_recipe
from foveal.tasks.classification.preprocessing import Augmentation
from foveal.tasks.recipes import create_task, get_recipe, plan_recipe

MODEL = "test_convnext"


# By hand: views = 20,000 x (n / 300)^0.75, a third of it from trained weights; passes = views / n, from 30 (10) to 100.
@pytest.mark.parametrize(
    ("images", "from_weights", "side", "passes", "batch", "rate"),
    [
        (300, False, 96, 67, 32, 0.001 * 0.5**0.5),
        (40, False, 96, 100, 4, 0.001 / 4),
        (3, False, 96, 100, 2, 0.000177),
        (1_000, False, 128, 49, 64, 0.001),
        (30_000, False, 224, 30, 64, 0.001),
        (300, True, 224, 22, 32, 0.0003 * 0.5**0.5),
        (40, True, 224, 37, 4, 0.0003 / 4),
        (30_000, True, 224, 10, 64, 0.0003),
    ],
)
def test_settings_follow_from_the_number_of_images(images, from_weights, side, passes, batch, rate):
    recipe = photos_recipe(MODEL).for_images(images, from_weights)
    assert recipe.fit.size == (side, side)
    assert (recipe.train.epochs, recipe.train.batch_size) == (passes, batch)
    assert recipe.train.lr == pytest.approx(rate, rel=1e-3)
    assert recipe.train.layer_decay == (0.75 if from_weights else None)
    assert recipe.train.warmup_epochs == max(1, passes // 10)


def test_strong_augmentation_is_for_many_images():
    few, many = (photos_recipe(MODEL).for_images(count, False) for count in (4_999, 5_000))
    assert (few.augment.mixup, few.augment.erasing, few.drop_path) == (0.0, 0.0, 0.0)
    assert (many.augment.mixup, many.augment.erasing, many.drop_path) == (0.2, 0.1, 0.1)


def test_what_is_asked_for_stays():
    asked = photos_recipe(MODEL).with_training(epochs=5, lr=0.1, batch_size=7).with_size(48).with_drop_path(0.0)
    recipe = asked.for_images(10_000, from_weights=True)
    assert (recipe.train.epochs, recipe.train.lr, recipe.train.batch_size) == (5, 0.1, 7)
    assert (recipe.fit.size, recipe.drop_path) == ((48, 48), 0.0)
    assert recipe.train.warmup_epochs == 1


def test_augmentation_that_is_asked_for_stays():
    recipe = photos_recipe(MODEL).with_augmentation("strong", mixup=0.7).for_images(300, from_weights=False)
    assert (recipe.augment.mixup, recipe.augment.erasing, recipe.augment.crop_scale) == (0.7, 0.25, (0.08, 1.0))
    weak = photos_recipe(MODEL).with_augmentation("none").for_images(10_000, from_weights=False)
    assert (weak.augment.mixup, weak.augment.erasing, weak.augment.flip) == (0.2, 0.0, 0.0)


def test_a_single_epoch_has_no_warm_up():
    assert photos_recipe(MODEL).with_training(epochs=1).for_images(300, False).train.warmup_epochs == 0


def test_position_biases_of_a_fresh_transnext_are_scaled_to_the_size():
    recipe = photos_recipe("transnext_atto")
    assert recipe.for_images(300, from_weights=False).model_args == {"pretrain_size": 96}
    assert recipe.for_images(300, from_weights=True).model_args == {}


def test_the_plan_says_what_was_chosen_and_how_images_are_augmented():
    plan = plan_recipe(get_recipe(f"photos.{MODEL}"), images=300)
    assert plan.recipe.summary == (
        "for 300 photographs, from random weights: 96 pixels, 67 passes, batches of 32, learning rate 0.000707"
    )
    assert str(plan.recipe.augment) == (
        "crops of 35 to 100 % of the image, flips, RandAugment rand-m5-n1-mstd0.5-inc1, label smoothing 0.1"
    )
    assert plan.network.size == (96, 96)
    assert plan.run.config.epochs == 67


def test_augmentation_that_is_off_is_not_named():
    off = Augmentation(
        flip=0.0, rand_augment=None, erasing=0.0, mixup=0.0, cutmix=0.0, label_smoothing=0.0, crop_scale=(0.5, 0.9)
    )
    assert str(off) == "crops of 50 to 90 % of the image, colour jitter 0.4"


def test_a_task_trains_by_the_settings_for_its_images(tmp_path):
    """A folder without a split: a fifth of each class is for validation."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(35):
            Image.fromarray(np.full((20, 30, 3), number, np.uint8)).save(tmp_path / name / f"{number}.png")
    task = create_task(get_recipe(f"photos.{MODEL}"), tmp_path)
    assert (len(task.train), len(task.val)) == (56, 14)
    assert (task.recipe.train.batch_size, task.recipe.train.epochs, task.recipe.fit.size) == (4, 100, (96, 96))
    image, _ = task.train[0]
    assert image.shape == (3, 96, 96)
    assert isinstance(image, torch.Tensor)
    assert task.val[0][0].shape == (3, 96, 96)


def test_an_unknown_model_is_named_with_near_ones():
    with pytest.raises(FovealError, match=r"There is no model 'transnext_ato', did you mean transnext_atto"):
        get_recipe("photos.transnext_ato")
