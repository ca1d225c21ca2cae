"""The segmentation recipes have the settings of the papers, listed here independently."""

from dataclasses import replace

import pytest
import timm
import torch

from foveal.errors import FovealError
from foveal.tasks.recipes import create_task, get_recipe, list_recipes, plan_recipe
from foveal.tasks.segmentation.recipes import RECIPES
from foveal.training.optimiser import learning_rates

# name: backbone, drop path (TransNeXt, appendix C.4; TransXNet's as on ImageNet)
UPERNET = {
    "ade20k.upernet_transnext_tiny": ("transnext_tiny", 0.4),
    "ade20k.upernet_transnext_small": ("transnext_small", 0.6),
    "ade20k.upernet_transnext_base": ("transnext_base", 0.7),
}
MASK2FORMER = {
    "ade20k.mask2former_transnext_tiny": ("transnext_tiny", 0.3),
    "ade20k.mask2former_transnext_small": ("transnext_small", 0.5),
    "ade20k.mask2former_transnext_base": ("transnext_base", 0.6),
}
SEMANTIC_FPN = {
    "ade20k.semantic_fpn_transxnet_t": ("transxnet_t", 0.1),
    "ade20k.semantic_fpn_transxnet_s": ("transxnet_s", 0.2),
    "ade20k.semantic_fpn_transxnet_b": ("transxnet_b", 0.4),
}
ADE20K = {**UPERNET, **MASK2FORMER, **SEMANTIC_FPN}
SHAPES = {
    "shapes.upernet_transnext_atto",
    "shapes.mask2former_transnext_atto",
    "shapes.semantic_fpn_transxnet_atto",
}


def updates(train):
    return train.total_epochs * train.epoch_steps


def test_recipe_names_are_complete():
    assert set(RECIPES) == {*ADE20K, *SHAPES}
    assert [recipe.name for recipe in list_recipes() if recipe.kind == "segmentation"] == list(RECIPES)


@pytest.mark.parametrize("name", UPERNET)
def test_upernet_recipes_match_the_published_settings(name):
    recipe = get_recipe(name)
    train = recipe.train
    assert (recipe.segmenter, recipe.model, recipe.drop_path) == ("upernet", *UPERNET[name])
    assert (train.optimizer, train.betas, train.lr, train.weight_decay) == ("adamw", (0.9, 0.999), 6e-5, 0.05)
    assert (updates(train), train.batch_size, train.clip_norm, train.lr_factors) == (160_000, 16, None, {})
    assert (train.schedule, train.power, train.min_lr) == ("poly", 1.0, 0.0)
    assert (train.warmup_steps, train.warmup_lr) == (1500, pytest.approx(6e-5 * 1e-6))
    assert (recipe.inference.window, recipe.inference.stride) == (512, 341)


@pytest.mark.parametrize("name", MASK2FORMER)
def test_mask2former_recipes_match_the_published_settings(name):
    recipe = get_recipe(name)
    train = recipe.train
    assert (recipe.segmenter, recipe.model, recipe.drop_path) == ("mask2former", *MASK2FORMER[name])
    assert (train.optimizer, train.lr, train.weight_decay, train.lr_factors) == (
        "adamw",
        1e-4,
        0.05,
        {"backbone.": 0.1},
    )
    assert (updates(train), train.batch_size, train.clip_norm) == (160_000, 16, 0.01)
    assert (train.schedule, train.power, train.min_lr, train.warmup_steps) == ("poly", 0.9, 0.0, 0)


@pytest.mark.parametrize("name", SEMANTIC_FPN)
def test_semantic_fpn_recipes_match_the_published_settings(name):
    recipe = get_recipe(name)
    train = recipe.train
    assert (recipe.segmenter, recipe.model, recipe.drop_path) == ("semantic_fpn", *SEMANTIC_FPN[name])
    assert (train.optimizer, train.lr, train.weight_decay, train.lr_factors) == ("adamw", 2e-4, 1e-4, {})
    assert (updates(train), train.batch_size, train.clip_norm) == (80_000, 32, None)
    assert (train.schedule, train.min_lr) == ("cosine", pytest.approx(2e-4 * 1e-8))
    assert (train.warmup_steps, train.warmup_lr) == (1000, pytest.approx(2e-4 * 0.1))
    assert (recipe.inference.window, recipe.inference.multiple) == (None, 32)


@pytest.mark.parametrize("name", ADE20K)
def test_ade20k_recipes_handle_ade20k_without_changes(name):
    """Label 0 is ignored; crops and the short side in evaluation are 512; backbones are pretrained."""
    recipe = get_recipe(name)
    assert (recipe.starts_from_weights, recipe.zero_ignored, recipe.data) == (True, True, None)
    assert (recipe.augment.crop, recipe.inference.short, recipe.inference.long) == (512, 512, 2048)
    assert (recipe.inference.scales, recipe.inference.flip) == ((1.0,), False)
    assert recipe.train.sync_bn
    assert recipe.train.precision == "fp32"


def test_the_rate_of_upernet_warms_up_over_1500_updates_and_decays_linearly():
    train = get_recipe("ade20k.upernet_transnext_tiny").train
    looks = [0, 750, 1500, 80_000, 159_999]
    line = [6e-5 * (1 - done / 160_000) for done in looks]
    warm = [6e-11, 6e-11 + (6e-5 - 6e-11) / 2]
    assert learning_rates(train, train.epoch_steps, looks) == pytest.approx([*warm, *line[2:]])


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_created(name):
    """On the meta device, where initialisation is free, with one block per stage."""
    recipe = get_recipe(name)
    assert timm.is_model(recipe.model)
    with torch.device("meta"):
        segmenter = replace(recipe, model_args={**recipe.model_args, "depths": (1, 1, 1, 1)}).create(150)
    assert segmenter.num_classes == 150
    assert segmenter.backbone.strides == [4, 8, 16, 32]


def test_frozen_stages_of_a_recipe_require_no_gradients():
    recipe = replace(get_recipe("shapes.upernet_transnext_atto"), frozen_stages=2)
    with torch.device("meta"):
        body = recipe.create(3).backbone.body
    assert [any(p.requires_grad for p in stage.parameters()) for stage in body.stages] == [False, False, True, True]


def test_with_size_scales_all_sides_with_the_crop():
    recipe = get_recipe("ade20k.upernet_transnext_tiny").with_size(256)
    assert recipe.augment.crop == 256
    seen = recipe.inference
    assert (seen.short, seen.long, seen.window, seen.stride) == (256, 1024, 256, 170)


def test_repeated_with_size_keeps_windows_equal_to_crops():
    """Factors such as 57/49 are not exact in binary."""
    usual = get_recipe("ade20k.upernet_transnext_tiny")
    for first in range(32, 100):
        recipe = usual.with_size(first).with_size(57)
        assert recipe.augment.crop == recipe.inference.window == recipe.inference.short == 57


def test_with_size_scales_images_without_a_fixed_short_side():
    recipe = get_recipe("shapes.upernet_transnext_atto").with_size(64)
    assert (recipe.augment.crop, recipe.inference.short, recipe.inference.scales) == (64, None, (0.5,))


def test_another_model_drops_the_model_args():
    recipe = get_recipe("shapes.upernet_transnext_atto")
    other = recipe.with_model("resnet18")
    assert (other.model, other.model_args, other.options) == ("resnet18", {}, recipe.options)


def test_an_unknown_recipe_is_rejected_with_a_suggestion():
    with pytest.raises(FovealError, match=r"did you mean ade20k\.upernet_transnext_tiny.*`foveal train --list`"):
        get_recipe("ade20k.upernet_transnext_tinny")


def test_create_task_selects_the_task_of_the_recipe():
    """The segmentation task raises its own error about missing weights."""
    with pytest.raises(FovealError, match="starts from a trained backbone"):
        create_task(get_recipe("ade20k.upernet_transnext_tiny"))


def test_a_plan_has_the_updates_of_the_recipe_and_the_sizes_of_the_datasets():
    shallow = dict(depths=(1, 1, 1, 1))
    plan = plan_recipe(replace(get_recipe("ade20k.semantic_fpn_transxnet_t"), model_args=shallow), processes=8)
    assert (plan.images.count, plan.images.classes) == (20_210, 150)
    assert (plan.run.steps_per_epoch, plan.run.steps) == (8000, 80_000)
    assert (plan.run.batching.device, plan.run.batching.accumulation) == (4, 1)
    assert plan.run.memory.activations > 0
    plan = plan_recipe(replace(get_recipe("shapes.mask2former_transnext_atto"), model_args=shallow))
    assert (plan.images.count, plan.images.classes, plan.run.memory) == (1200, 6, None)


def test_epoch_steps_can_be_set():
    train = get_recipe("ade20k.upernet_transnext_tiny").with_training(epochs=3, epoch_steps=50).train
    assert (train.epochs, train.epoch_steps) == (3, 50)


@pytest.mark.parametrize(
    ("settings", "warmup"),
    [
        (dict(epochs=1, epoch_steps=100), 50),
        (dict(epoch_steps=200), 1000),
        (dict(epochs=1, epoch_steps=160_000), 1500),
        (dict(epochs=1), 1500),
        (dict(epochs=1, epoch_steps=100, warmup_steps=80), 80),
        (dict(epochs=2, epoch_steps=100, warmup_epochs=1), None),
    ],
)
def test_warmup_takes_at_most_half_of_the_updates(settings, warmup):
    assert get_recipe("ade20k.upernet_transnext_tiny").with_training(**settings).train.warmup_steps == warmup
