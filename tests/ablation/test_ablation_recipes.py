"""Every row of an ablation table has a recipe or a reason, and every recipe a network."""

from itertools import combinations

import pytest
import torch

from foveal.errors import FovealError
from foveal.papers import paper_table, paper_tables
from foveal.tasks.classification.ablations import (
    TABLES,
    ablation_rows,
    ablation_table,
    get_recipe,
    list_recipes,
    rows_left_out,
    slug,
)
from foveal.tasks.classification.task import ClassificationTask
from foveal.tasks.recipes import get_recipe as any_recipe
from foveal.tasks.recipes import plan_recipe

NAMES = [recipe.name for recipe in list_recipes()]
OTHER_TABLES = {  # results and costs of whole networks
    *("imagenet", "variants", "multi_scale", "cuda", "throughput", "coco_mask_rcnn", "coco_dino", "ade20k_upernet"),
    *("ade20k_mask2former", "imagenet_384", "coco_retinanet", "ade20k_semantic_fpn", "efficiency"),
}


def test_every_table_is_an_ablation_or_known_to_be_another():
    assert {name for name in paper_tables() if name.partition(".")[2] not in OTHER_TABLES} == set(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_every_row_has_a_recipe_or_a_reason(name):
    table = paper_table(name)
    found = [row.row.name for row in ablation_rows(table)]
    assert sorted([*found, *rows_left_out(table)]) == sorted(row.name for row in table.rows)
    assert all(rows_left_out(table).values())
    for row in ablation_rows(table):
        assert get_recipe(f"ablation.{name}.{slug(row.row.name)}", small=True).name == row.name


def test_names_are_unique():
    assert len(set(NAMES)) == len(NAMES) >= 27


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("GLU -> ConvGLU", "glu_convglu"),
        ("+ More Heads", "more_heads"),
        ("A-A-A-[MA]", "a_a_a_ma"),
        ("1, 3, 5", "1_3_5"),
        ("0.25", "0_25"),
        ("3 (Single-scale)", "3_single_scale"),
    ],
)
def test_row_names_are_typed_in_lower_case_with_underscores(name, typed):
    assert slug(name) == typed


@pytest.mark.parametrize("name", NAMES)
def test_every_small_form_is_created_and_takes_digits(name):
    with torch.device("meta"):
        recipe, model = ClassificationTask.create_model(get_recipe(name, small=True), 10)
        assert model(torch.empty(2, 3, 64, 64)).shape == (2, 10)
    assert sum(parameter.numel() for parameter in model.parameters()) < 2.5e6
    assert (recipe.fit.size, recipe.data, recipe.drop_path) == ((64, 64), "digits", 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_every_whole_network_has_the_printed_parameters(name):
    """Those of the CIFAR-100 tables are for another number of classes, of a model that the paper does not name."""
    recipe = get_recipe(name, small=False)
    with torch.device("meta"):
        _, model = ClassificationTask.create_model(recipe, 1000)
    table = paper_table(name.removeprefix("ablation.").rpartition(".")[0])
    row = next(one.row for one in ablation_rows(table) if one.name == name)
    printed = row.number("params_m")
    if printed is not None and "top1_cifar" not in row.figures and not table.reason("params_m", row.name):
        assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(printed, abs=0.06)
    assert recipe.data is None
    assert recipe.fit.size == ((256, 256) if name.endswith("token_mixers.a_a_a_a") else (224, 224))


def test_rows_of_a_small_table_differ_by_their_networks_alone():
    recipes = [row.recipe(small=True) for row in ablation_rows(paper_table("transnext.roadmap"))]
    assert len({str((recipe.train, recipe.augment, recipe.fit, recipe.drop_path)) for recipe in recipes}) == 1
    assert len({str((recipe.model, recipe.model_args)) for recipe in recipes}) == len(recipes)


@pytest.mark.parametrize("name", TABLES)
def test_rows_of_a_small_table_compute_different_things(name):
    """With the same weights: on smaller images, reduced keys would be one, and its attention 1 with any heads."""
    models = []
    for row in ablation_rows(paper_table(name)):
        torch.manual_seed(0)
        models.append(ClassificationTask.create_model(row.recipe(small=True), 10)[1].eval())
    image = torch.rand(1, 3, 64, 64)
    for one, other in combinations(models, 2):
        weights, others = one.state_dict(), other.state_dict()
        if {name: value.shape for name, value in weights.items()} == {n: value.shape for n, value in others.items()}:
            other.load_state_dict(weights)
            with torch.no_grad():
                assert (one(image) - other(image)).abs().max() > 1e-5
            other.load_state_dict(others)


def test_more_heads_has_twice_the_heads_of_the_step_before():
    heads = [
        get_recipe(f"ablation.transnext.roadmap.{row}", small=True).model_args["head_dim"]
        for row in ("deeper_and_thinner", "more_heads")
    ]
    assert heads == [24, 12]


def test_given_images_choose_the_whole_network():
    name = "ablation.transnext.token_mixers.a_a_m_m"
    whole, small = any_recipe(name, own_images=True), any_recipe(name)
    assert whole.model_args == {"token_mixers": "AAMM"}
    assert whole.train == any_recipe("cifar100.transnext_pico").train
    assert small.model_args["embed_dims"] == (24, 48, 96, 192)


def test_a_small_form_is_planned_without_images():
    plan = plan_recipe(any_recipe("ablation.transnext.roadmap.query_embedding"))
    assert (plan.images.count, plan.images.classes) == (1438, 10)


def test_a_mistyped_row_gets_near_names():
    with pytest.raises(FovealError, match=r"did you mean ablation\.transnext\.roadmap\.glu_convglu"):
        any_recipe("ablation.transnext.roadmap.glu_convglue")


def test_a_table_that_is_no_ablation_is_refused():
    with pytest.raises(FovealError, match=r"transnext\.imagenet is not an ablation: `foveal ablate` lists"):
        ablation_table("transnext.imagenet")
