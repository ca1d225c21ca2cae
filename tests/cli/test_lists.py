"""The stored lists are those of the code: `make lists` writes them again."""

from dataclasses import asdict

import pytest

from foveal.cli.lists import FAMILIES, ablations, check_recipe, models, recipes
from foveal.errors import FovealError
from foveal.models.catalogue import catalogue, entry
from foveal.tasks.classification.ablations import TABLES, ablation_rows, ablation_table
from foveal.tasks.recipes import get_recipe, list_ablations, list_recipes

SMALL = ("transnext_atto", "transxnet_atto")  # quick to count; tests/models/test_counting.py compares all


def test_the_recipes_are_those_of_the_code():
    assert [(one.name, one.summary) for one in recipes()] == [
        (recipe.name, recipe.summary) for recipe in (*list_recipes(), *list_ablations())
    ]


def test_ablations_are_distinguished_from_the_other_recipes():
    assert [one.name for one in recipes() if one.is_ablation] == [recipe.name for recipe in list_ablations()]


def test_the_tables_of_ablations_are_those_of_the_code_with_their_rows():
    assert list(ablations().items()) == [(name, len(ablation_rows(ablation_table(name)))) for name in TABLES]


@pytest.mark.parametrize("name", SMALL)
def test_a_model_is_listed_as_it_is_counted(name):
    [listed] = [one for one in models() if one.name == name]
    assert asdict(listed) == asdict(entry(name))


@pytest.mark.parametrize(
    "recipe", ["digits.transnext_atto", "finetune.resnet18", *(one.name for one in recipes()[-2:])]
)
def test_every_recipe_that_there_is_passes(recipe):
    check_recipe(recipe)
    get_recipe(recipe)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("digits.transnext_ato", "digits.transnext_atto"),
        ("ablation.transnext.roadmap.glu_convgl", "ablation.transnext.roadmap.glu_convglu"),
        ("finetun.resnet18", ""),
    ],
)
def test_other_names_are_refused_with_near_ones(name, near):
    with pytest.raises(FovealError, match=f"There is no recipe '{name}'.*{near}.*`foveal train --list`"):
        check_recipe(name)


def test_families_are_for_every_model():
    assert all(family.endswith("MODEL") and family.count(".") == 1 for family in FAMILIES)


def test_the_catalogue_has_the_models_of_the_list():
    assert [one.name for one in models() if "atto" in one.name] == [one.name for one in catalogue("atto")]
