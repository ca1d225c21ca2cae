"""``finetune.HEAD_MODEL``: any detector or segmenter on a trained backbone, with settings for the number of images."""

import pytest

from foveal.errors import FovealError
from foveal.tasks.detection.detector import BUILDERS as DETECTORS
from foveal.tasks.recipes import create_task, get_recipe, plan_recipe
from foveal.tasks.segmentation.segmenter import BUILDERS as SEGMENTERS


@pytest.mark.parametrize(
    ("head", "kind"), [*((head, "detection") for head in DETECTORS), *((head, "segmentation") for head in SEGMENTERS)]
)
def test_every_head_has_a_recipe_on_any_backbone(head, kind):
    recipe = get_recipe(f"finetune.{head}_resnet18")
    assert (recipe.kind, recipe.head, recipe.model) == (kind, head, "resnet18")
    assert recipe.starts_from_weights


# By hand: 50 (100) passes over 300 images, with the square root of 300 / n, from 12 (30) to 100 (200); batches of 4
# below 200 images, 8 below 2,000, then 16, but at most a quarter; rates of a batch of 16 with the root of the batch, in
# three digits.
@pytest.mark.parametrize(
    ("name", "images", "passes", "batch", "rate"),
    [
        ("retinanet_resnet18", 300, 50, 8, 7.07e-5),
        ("retinanet_resnet18", 40, 100, 4, 5e-5),
        ("retinanet_resnet18", 5, 100, 2, 3.54e-5),
        ("retinanet_resnet18", 1, 100, 1, 2.5e-5),
        ("retinanet_resnet18", 3_000, 16, 16, 1e-4),
        ("retinanet_resnet18", 100_000, 12, 16, 1e-4),
        ("upernet_resnet18", 300, 100, 8, 4.24e-5),
        ("upernet_resnet18", 20_000, 30, 16, 6e-5),
    ],
)
def test_passes_batch_and_rate_follow_from_the_number_of_images(name, images, passes, batch, rate):
    train = get_recipe(f"finetune.{name}").for_images(images, from_weights=True).train
    assert (train.epochs, train.batch_size) == (passes, batch)
    assert train.lr == rate


def test_what_is_asked_for_stays():
    recipe = get_recipe("finetune.upernet_resnet18").with_training(epochs=3, batch_size=2).with_size(64)
    fitted = recipe.for_images(300, from_weights=True)
    assert (fitted.train.epochs, fitted.train.batch_size, fitted.augment.crop) == (3, 2, 64)


def test_the_plan_says_what_was_chosen():
    plan = plan_recipe(get_recipe("finetune.semantic_fpn_resnet18"), images=300)
    assert plan.recipe.summary == (
        "semantic_fpn on resnet18 for 300 images, 100 passes, batches of 8, learning rate 9.9e-05"
    )
    assert plan.run.config.epochs == 100


def test_drop_path_is_as_published_for_released_backbones():
    assert get_recipe("finetune.mask_rcnn_transnext_base").drop_path == 0.6
    assert get_recipe("finetune.mask2former_transnext_base").drop_path == 0.6
    assert get_recipe("finetune.upernet_transnext_base").drop_path == 0.7
    assert get_recipe("finetune.semantic_fpn_transxnet_s").drop_path == 0.2
    assert get_recipe("finetune.semantic_fpn_resnet18").drop_path == 0.1


def test_an_unknown_backbone_gets_near_names():
    with pytest.raises(FovealError, match=r"There is no model 'resnet1'.*resnet18"):
        get_recipe("finetune.retinanet_resnet1")


def test_weights_to_start_from_are_required():
    with pytest.raises(FovealError, match="starts from a trained backbone: pass --checkpoint FILE or --pretrained"):
        create_task(get_recipe("finetune.retinanet_transxnet_atto"), "nowhere")
