"""The recipes have the settings of the papers, listed here independently from recipes.md."""

import pytest
import timm
import torch

import foveal
from foveal.errors import FovealError
from foveal.tasks.classification.preprocessing import Preprocessing
from foveal.tasks.classification.recipes import get_recipe, list_recipes

TRANSNEXT = {
    "imagenet.transnext_micro": ("transnext_micro", 224, 0.15),
    "imagenet.transnext_tiny": ("transnext_tiny", 224, 0.25),
    "imagenet.transnext_small": ("transnext_small", 224, 0.45),
    "imagenet.transnext_base": ("transnext_base", 224, 0.6),
    "imagenet.transnext_micro_aaaa_256": ("transnext_micro_aaaa", 256, 0.15),
}
TRANSXNET = {
    "imagenet.transxnet_t": ("transxnet_t", 0.9998, 0.1, 0.9),
    "imagenet.transxnet_s": ("transxnet_s", 0.99985, 0.2, 0.9),
    "imagenet.transxnet_b": ("transxnet_b", 0.99985, 0.4, 0.95),
}


def assert_same_augmentation(recipe):
    augment = recipe.augment
    assert (augment.rand_augment, augment.color_jitter, augment.flip) == ("rand-m9-mstd0.5-inc1", 0.4, 0.5)
    assert (augment.erasing, augment.mixup, augment.mix_prob, augment.switch_prob) == (0.25, 0.8, 1.0, 0.5)
    assert augment.label_smoothing == 0.1
    assert augment.crop_scale == (0.08, 1.0)


@pytest.mark.parametrize("name", TRANSNEXT)
def test_transnext_recipes_match_the_paper(name):
    recipe, (model, size, drop_path) = get_recipe(name), TRANSNEXT[name]
    train = recipe.train
    assert (recipe.name, recipe.model, recipe.fit.size, recipe.drop_path) == (name, model, (size, size), drop_path)
    assert (train.optimizer, train.betas, train.eps, train.weight_decay) == ("adamw", (0.9, 0.999), 1e-8, 0.05)
    assert (train.batch_size, train.lr, train.min_lr, train.schedule) == (1024, 1e-3, 1e-5, "cosine")
    assert (train.epochs, train.cooldown_epochs, train.warmup_epochs, train.warmup_lr) == (300, 10, 5, 1e-6)
    assert (train.clip_norm, train.ema_decay) == (1.0, None)
    assert train.precision != "fp32"
    assert (recipe.augment.cutmix, recipe.augment.repeats) == (1.0, 3)
    assert (recipe.fit.crop, recipe.fit.whole_from, recipe.fit.interpolation) == (0.875, 384, "bicubic")
    assert_same_augmentation(recipe)


@pytest.mark.parametrize(("variant", "drop_path"), [("small", 0.7), ("base", 0.8)])
def test_transnext_384_recipes_match_the_paper(variant, drop_path):
    recipe = get_recipe(f"imagenet.transnext_{variant}_384")
    train = recipe.train
    assert (recipe.fit.size, recipe.drop_path) == ((384, 384), drop_path)
    assert recipe.fit.takes_whole_image
    assert (train.epochs, train.total_epochs, train.lr, train.warmup_epochs) == (5, 5, 1e-5, 0)
    assert (train.schedule, train.batch_size, recipe.augment.cutmix) == ("constant", 1024, 0.0)
    assert recipe.starts_from_weights
    assert_same_augmentation(recipe)


@pytest.mark.parametrize("name", TRANSXNET)
def test_transxnet_recipes_match_the_paper(name):
    recipe, (model, ema, drop_path, crop) = get_recipe(name), TRANSXNET[name]
    train = recipe.train
    assert (recipe.name, recipe.model, recipe.drop_path, recipe.fit.crop) == (name, model, drop_path, crop)
    assert (train.batch_size, train.lr, train.min_lr, train.weight_decay) == (1024, 2e-3, 1e-5, 0.05)
    assert (train.epochs, train.total_epochs, train.warmup_epochs) == (300, 300, 5)
    assert (train.ema_decay, train.sync_bn, recipe.augment.repeats) == (ema, True, 1)
    assert_same_augmentation(recipe)


def test_transxnet_b_384_is_fine_tuned_for_30_epochs():
    recipe = get_recipe("imagenet.transxnet_b_384")
    assert (recipe.fit.size, recipe.train.epochs, recipe.starts_from_weights) == ((384, 384), 30, True)


@pytest.mark.parametrize(
    ("name", "published"),  # multiply-adds in G, tables 7 and 8
    [
        ("cifar100.transnext_pico", 0.50),
        ("cifar100.transnext_pico_window5", 0.52),
        ("cifar100.transnext_pico_window7", 0.54),
        ("cifar100.transnext_pico_window9", 0.57),
    ],
)
def test_cifar_ablation_models_have_the_multiply_adds_of_the_paper(name, published):
    recipe = get_recipe(name)
    with torch.device("meta"):
        net = timm.create_model(recipe.model, num_classes=100, **recipe.model_args)
    count = foveal.flops(net, recipe.fit.size)
    assert round(count.macs / 1e9, 2) == published
    assert 2.0 <= count.params / 1e6 < 2.3  # "2M-sized"; the paper prints 2.3
    assert (recipe.train.batch_size, recipe.train.lr, recipe.train.total_epochs) == (1024, 1e-3, 310)


@pytest.mark.parametrize("recipe", list_recipes(), ids=lambda recipe: recipe.name)
def test_every_recipe_names_an_existing_model(recipe):
    assert timm.is_model(recipe.model)
    assert get_recipe(recipe.name) == recipe


def test_any_model_can_be_fine_tuned():
    recipe = get_recipe("finetune.transnext_tiny")
    assert recipe.model == "transnext_tiny"
    assert recipe.starts_from_weights
    assert recipe.train.layer_decay is not None
    assert recipe.fit == Preprocessing((224, 224))


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("imagenet.transnext_tinny", "imagenet.transnext_tiny"),
        ("digits.transnext_ato", "digits.transnext_atto"),
        ("finetune.transnext_tinny", "transnext_tiny"),
    ],
)
def test_an_unknown_recipe_is_rejected_with_a_suggestion(name, near):
    with pytest.raises(FovealError, match=near) as caught:
        get_recipe(name)
    assert "`foveal" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_similar_recipe_the_error_names_the_list_command():
    with pytest.raises(FovealError, match="`foveal train --list`"):
        get_recipe("zzz")
