"""The detection recipes have the settings of the papers, listed here independently."""

from dataclasses import replace

import pytest
import timm
import torch

from foveal.errors import FovealError
from foveal.tasks.detection.data import MULTI_SCALE, Augmentation
from foveal.tasks.detection.recipes import RECIPES
from foveal.tasks.recipes import create_task, get_recipe, list_recipes, plan_recipe
from foveal.training.optimiser import learning_rates
from support.detectors import SMALL

# name: detector, backbone, drop path (TransNeXt, appendix C.3; TransXNet's as on ImageNet, table of section IV-A)
ONE_X = {
    "coco.mask_rcnn_transnext_tiny": ("mask_rcnn", "transnext_tiny", 0.3, 0.05),
    "coco.mask_rcnn_transnext_small": ("mask_rcnn", "transnext_small", 0.5, 0.05),
    "coco.mask_rcnn_transnext_base": ("mask_rcnn", "transnext_base", 0.6, 0.05),
    "coco.mask_rcnn_transxnet_t": ("mask_rcnn", "transxnet_t", 0.1, 0.05),
    "coco.mask_rcnn_transxnet_s": ("mask_rcnn", "transxnet_s", 0.2, 0.05),
    "coco.mask_rcnn_transxnet_b": ("mask_rcnn", "transxnet_b", 0.4, 0.05),
    "coco.retinanet_transxnet_t": ("retinanet", "transxnet_t", 0.1, 1e-4),
    "coco.retinanet_transxnet_s": ("retinanet", "transxnet_s", 0.2, 1e-4),
    "coco.retinanet_transxnet_b": ("retinanet", "transxnet_b", 0.4, 1e-4),
}
DINO = {
    "coco.dino_transnext_tiny": ("transnext_tiny", 0.3, 4),
    "coco.dino_5scale_transnext_tiny": ("transnext_tiny", 0.3, 5),
    "coco.dino_5scale_transnext_small": ("transnext_small", 0.5, 5),
    "coco.dino_5scale_transnext_base": ("transnext_base", 0.6, 5),
}
SHAPES = {"shapes.mask_rcnn_transnext_atto", "shapes.retinanet_transxnet_atto", "shapes.dino_transnext_atto"}


def test_recipe_names_are_complete():
    assert set(RECIPES) == {*ONE_X, *DINO, *SHAPES}
    assert [recipe.name for recipe in list_recipes() if recipe.kind == "detection"] == list(RECIPES)


@pytest.mark.parametrize("name", ONE_X)
def test_mask_rcnn_and_retinanet_recipes_match_the_published_1x_schedule(name):
    recipe, (detector, model, drop_path, weight_decay) = get_recipe(name), ONE_X[name]
    train = recipe.train
    assert (recipe.detector, recipe.model, recipe.drop_path) == (detector, model, drop_path)
    assert (train.optimizer, train.betas, train.lr, train.weight_decay) == ("adamw", (0.9, 0.999), 1e-4, weight_decay)
    assert (train.epochs, train.total_epochs, train.batch_size) == (12, 12, 16)
    assert (train.schedule, train.milestones, train.decay_rate) == ("multistep", (8, 11), 0.1)
    assert (train.warmup_steps, train.warmup_lr) == (500, 1e-7)  # 0.001 times the rate
    assert (train.clip_norm, train.lr_factors, train.ema_decay) == (None, {}, None)
    assert train.sync_bn == model.startswith("transxnet")
    assert recipe.augment == Augmentation(short=(800,), long=1333, crop=None, flip=0.5, colour=0.0)


@pytest.mark.parametrize("name", DINO)
def test_dino_recipes_match_the_published_settings(name):
    recipe, (model, drop_path, levels) = get_recipe(name), DINO[name]
    train = recipe.train
    assert (recipe.detector, recipe.model, recipe.drop_path) == ("dino", model, drop_path)
    assert recipe.options == {"num_levels": levels}
    assert (train.optimizer, train.lr, train.weight_decay, train.lr_factors) == (
        "adamw",
        1e-4,
        0.05,
        {"backbone.": 0.1},
    )
    assert (train.epochs, train.batch_size, train.clip_norm) == (12, 16, 0.1)
    assert (train.schedule, train.milestones, train.decay_rate, train.warmup_steps) == ("multistep", (11,), 0.1, 0)
    assert recipe.augment == MULTI_SCALE
    assert recipe.augment.short == (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    assert (recipe.augment.long, recipe.augment.crop, recipe.augment.crop_short) == (1333, (384, 600), (400, 500, 600))


@pytest.mark.parametrize("name", [*ONE_X, *DINO])
def test_coco_recipes_handle_coco_without_changes(name):
    """Two boxes of train2017 are empty; all but DINO drop images without objects; evaluation is at 800 x 1333."""
    recipe = get_recipe(name)
    assert recipe.starts_from_weights
    assert recipe.train.broken == "skip"
    assert recipe.keep_empty == (name in DINO)
    assert recipe.sides == (800, 1333)
    assert (recipe.data, recipe.frozen_stages, recipe.train.precision) == (None, 0, "fp32")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_created(name):
    """On the meta device, where initialisation is free, with one block per stage."""
    recipe = get_recipe(name)
    assert timm.is_model(recipe.model)
    with torch.device("meta"):
        detector = replace(recipe, model_args={**recipe.model_args, "depths": (1, 1, 1, 1)}).create(80)
    assert detector.num_classes == 80
    assert len(detector.backbone.strides) == {"mask_rcnn": 4, "retinanet": 3}.get(
        recipe.detector, recipe.options.get("num_levels", 4) - 1
    )


def test_the_rate_warms_up_over_500_updates_and_drops_twice():
    config, steps = get_recipe("coco.mask_rcnn_transnext_tiny").train, 7329
    looks = [0, 250, 500, 8 * steps - 1, 8 * steps, 11 * steps, 12 * steps - 1]
    rates = [1e-7, (1e-7 + 1e-4) / 2, 1e-4, 1e-4, 1e-5, 1e-6, 1e-6]
    assert learning_rates(config, steps, looks) == pytest.approx(rates)


def test_milestones_scale_with_the_epochs():
    recipe = get_recipe("coco.mask_rcnn_transnext_tiny")
    assert recipe.with_training(epochs=36).train.milestones == (24, 33)
    assert recipe.with_training(epochs=36, milestones=(27, 33)).train.milestones == (27, 33)
    assert recipe.with_training(epochs=1).train.milestones == (1,)
    assert get_recipe("coco.dino_transnext_tiny").with_training(epochs=24).train.milestones == (22,)


def test_warmup_epochs_replace_warmup_steps():
    train = get_recipe("coco.mask_rcnn_transnext_tiny").with_training(warmup_epochs=1).train
    assert (train.warmup_epochs, train.warmup_steps) == (1, None)


def test_the_device_batch_size_is_at_most_the_batch_size():
    recipe = get_recipe("coco.dino_transnext_tiny")
    assert recipe.train.device_batch_size == 2
    assert recipe.with_training(batch_size=1).train.device_batch_size == 1
    assert recipe.with_training(batch_size=8).train.device_batch_size == 2
    assert recipe.with_training(batch_size=8, device_batch_size=4).train.device_batch_size == 4


def test_with_size_scales_all_sides_with_the_short_one():
    recipe = get_recipe("coco.dino_transnext_tiny").with_size(400)
    assert recipe.sides == (400, round(1333 / 2))
    assert recipe.augment.short == tuple(range(240, 401, 16))
    assert (recipe.augment.long, recipe.augment.crop) == (666, (192, 300))
    assert recipe.with_size(800).sides[0] == 800


def test_with_size_scales_images_without_a_fixed_short_side():
    recipe = get_recipe("shapes.retinanet_transxnet_atto")
    free = replace(recipe, augment=Augmentation(short=(), scale=(0.8, 1.25)))
    assert free.with_size(recipe.sides[0] // 2).augment.scale == pytest.approx((0.4, 0.625))


def test_another_model_drops_the_model_args():
    recipe = get_recipe("shapes.mask_rcnn_transnext_atto")
    other = recipe.with_model("resnet18")
    assert (other.model, other.model_args, other.options) == ("resnet18", {}, recipe.options)
    assert recipe.with_model("transnext_atto") == recipe


def test_an_unknown_recipe_is_rejected_with_a_suggestion():
    with pytest.raises(FovealError, match=r"did you mean coco\.dino_transnext_tiny.*`foveal train --list`"):
        get_recipe("coco.dino_transnext_tinny")


def test_create_task_selects_the_task_of_the_recipe():
    """The detection task raises its own error about missing weights."""
    with pytest.raises(FovealError, match="starts from a trained backbone"):
        create_task(get_recipe("coco.dino_transnext_tiny"))


def test_a_plan_has_the_sizes_of_coco_and_shapes():
    shallow = dict(depths=(1, 1, 1, 1))
    recipe = get_recipe("coco.dino_transnext_tiny")
    small = replace(recipe, model_args=shallow, options={**recipe.options, **SMALL["dino"]})
    plan = plan_recipe(small, processes=8)
    assert (plan.images.count, plan.images.classes, plan.run.steps_per_epoch) == (118_287, 80, 7393)
    assert (plan.run.batching.device, plan.run.batching.accumulation, plan.run.memory) == (2, 1, None)
    assert {p.lr_scale for p in plan.run.parameters if p.name.startswith("backbone.")} == {0.1}
    assert {p.lr_scale for p in plan.run.parameters if not p.name.startswith("backbone.")} == {1.0}
    assert plan_recipe(replace(get_recipe("shapes.retinanet_transxnet_atto"), model_args=shallow)).images.count == 1200
