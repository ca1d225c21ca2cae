"""The models and the recipes as lists, stored as data: what a command shows, or looks for a name in, without PyTorch.

``python -m foveal.cli.lists.write`` writes them again, after a model or a recipe has changed; a test compares them.
"""

import csv
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from foveal.listed_model import ListedModel
from foveal.tasks.recipe import no_recipe

FOLDER = Path(__file__).parent
MODELS, RECIPES = "models.csv", "recipes.csv"
ABLATION = "ablation."  # what the names of ablations' recipes begin with
#: Recipes for every model there is, which no list has.
FAMILIES = {
    "photos.MODEL": "any model of timm on your own photographs, with settings that follow from their number",
    "finetune.MODEL": "any model of timm, fine-tuned on your own folder of images",
    "finetune.HEAD_MODEL": "mask_rcnn, retinanet or dino, upernet, mask2former or semantic_fpn on any backbone of "
    "timm, fine-tuned on your own annotations, with settings that follow from the number of images",
}


@dataclass(frozen=True)
class ListedRecipe:
    """A line of ``foveal train --list``."""

    name: str
    summary: str

    @property
    def is_ablation(self) -> bool:
        """Whether it is a row of a paper's ablation."""
        return self.name.startswith(ABLATION)


@cache
def models() -> tuple[ListedModel, ...]:
    """Return every model, by family and size."""
    return tuple(
        ListedModel(
            name=row["name"],
            size=int(row["size"]),
            params=int(row["params"]),
            macs=int(row["macs"]),
            paper_macs=int(row["paper_macs"]),
            top1=_number(row["top1"]),
            published_params=_number(row["published_params"]),
            published_macs=_number(row["published_macs"]),
            home=row["home"] or None,
        )
        for row in _rows(MODELS)
    )


@cache
def recipes() -> tuple[ListedRecipe, ...]:
    """Return all recipes with a fixed name: task by task, then those of ablations."""
    return tuple(ListedRecipe(**row) for row in _rows(RECIPES))


def ablations() -> dict[str, int]:
    """Return the number of rows that can be trained of each ablation's table, by its name."""
    return Counter(one.name.removeprefix(ABLATION).rpartition(".")[0] for one in recipes() if one.is_ablation)


def check_recipe(name: str) -> None:
    """Raise FovealError if there is no recipe of this name. Whether the model in a family's name exists is not known
    here."""
    listed = [one.name for one in recipes()]
    families = tuple(family.removesuffix("MODEL") for family in FAMILIES)
    if name not in listed and not name.startswith(families):
        raise no_recipe(name, [*listed, *FAMILIES])


def _rows(file: str) -> list[dict[str, str]]:
    with (FOLDER / file).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _number(text: str) -> float | None:
    return float(text) if text else None
