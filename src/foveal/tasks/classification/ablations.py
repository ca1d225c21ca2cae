"""The recipes of the papers' ablations, made from their tables: ``ablation.TABLE.ROW``.

A row that names a network has a recipe. Without images of one's own it trains the row's small form on the handwritten
digits: the row's arguments at the smallest widths and depths, so that a table takes minutes. With ``--data``, such as
CIFAR-100, it trains the row's own network by the settings of ``cifar100.*``.

Small forms have about half the widths of the networks and a fifth to a half of their blocks, and as many attention
heads, which therefore have half the channels. TransNeXt-Tiny becomes as small as Micro, also with its own number of
heads. The digits are enlarged to 64 pixels: at 32, the reduced keys of PVT's attention would be a single one, for which
neither heads nor queries matter.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from foveal.errors import FovealError
from foveal.papers import PaperTable, Row, paper_table
from foveal.tasks.classification.recipe import Recipe
from foveal.tasks.classification.recipes import RECIPES
from foveal.tasks.recipe import look_up

PREFIX = "ablation."
TABLES = (
    "transnext.roadmap",
    "transnext.position_encoding",
    "transnext.conv_glu",
    "transnext.window_size",
    "transnext.token_mixers",
    "transxnet.token_mixers",
    "transxnet.depthwise",
    "transxnet.ffn_scales",
    "transxnet.attention_ratio",
    "transxnet.design",
)
DIGITS_EPOCHS, DIGITS_SIZE = 6, 64

_ATTO = {"embed_dims": (24, 48, 96, 192), "depths": (1, 1, 3, 1)}
#: Sizes of the small forms, by the beginning of the network's name; the longest that fits counts.
_SIZES: dict[str, dict[str, Any]] = {
    "transnext": _ATTO,
    "transxnet": _ATTO,
    "transxnet_mixers": {"embed_dims": (32, 64, 128, 256), "depths": (1, 1, 3, 1)},
    "pvt": {"embed_dims": (32, 64, 160, 256), "depths": (1, 1, 1, 1)},
}
#: Defaults of the small forms, which a row's arguments replace; keys as in ``_SIZES``.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "transnext_micro": {"head_dim": 12, "pretrain_size": DIGITS_SIZE},
    "transnext_roadmap": {"head_dim": 12, "pretrain_size": DIGITS_SIZE},
    "transnext_roadmap_2": {"head_dim": 24, "pretrain_size": DIGITS_SIZE},
    "transnext_tiny": {"head_dim": 8, "pretrain_size": DIGITS_SIZE},
    "transnext_pico": {"head_dim": 24, "pretrain_size": DIGITS_SIZE},
    "": {},
}


@dataclass(frozen=True)
class AblationRow:
    """A row of a table that can be trained.

    Attributes:
        table: the table's name ("transnext.roadmap").
        slug: the row's name to type ("glu_convglu" for "GLU -> ConvGLU").
        row: the row as the paper has it.
    """

    table: str
    slug: str
    row: Row

    @property
    def name(self) -> str:
        """The name of its recipe."""
        return f"{PREFIX}{self.table}.{self.slug}"

    def recipe(self, *, small: bool) -> Recipe:
        """Return the recipe: of the small form on the digits, or of the row's own network on other images."""
        return _on_digits(self) if small else _on_images(self)


def slug(name: str) -> str:
    """Return a row's name in lower case, with an underscore for everything between letters and numbers."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def ablation_table(name: str) -> PaperTable:
    """Return the table of an ablation by its name.

    Raises:
        FovealError: there is no such table, or it is not an ablation.
    """
    table = paper_table(name)
    if name not in TABLES:
        raise FovealError(f"{name} is not an ablation: `foveal ablate` lists the tables that are.")
    return table


def ablation_rows(table: PaperTable) -> list[AblationRow]:
    """Return the rows of a table that can be trained, in the paper's order."""
    return [AblationRow(table.name, slug(row.name), row) for row in table.rows if row.model]


def rows_left_out(table: PaperTable) -> dict[str, str]:
    """Return why the other rows cannot be trained, by their names."""
    return {row.name: "foveal has no network for it" for row in table.rows if not row.model}


def get_recipe(name: str, *, small: bool) -> Recipe:
    """Return the recipe ``ablation.TABLE.ROW``; ``small`` as in ``AblationRow.recipe``.

    Raises:
        FovealError: there is none; the sentence gives near names and the command that lists all.
    """
    return look_up(name, {known: partial(row.recipe, small=small) for known, row in _rows_by_name().items()})


def list_recipes() -> list[Recipe]:
    """Return all recipes in their small form, table by table."""
    return [row.recipe(small=True) for row in _rows_by_name().values()]


@cache
def _rows_by_name() -> dict[str, AblationRow]:
    return {row.name: row for table in TABLES for row in ablation_rows(paper_table(table))}


def _on_digits(one: AblationRow) -> Recipe:
    """The digits' recipe, shorter. The same for all rows, so that they differ by their networks alone."""
    digits = RECIPES["digits.transnext_atto"]()
    return replace(
        digits.with_size(DIGITS_SIZE),
        name=one.name,
        summary=_summary(one),
        model=_model(one),
        model_args={**_of_model(_DEFAULTS, one), **one.row.arguments, **_of_model(_SIZES, one)},
        train=replace(digits.train, epochs=DIGITS_EPOCHS),
    )


def _on_images(one: AblationRow) -> Recipe:
    """The recipe of CIFAR-100, at the row's size of images if the table has one."""
    recipe = replace(
        RECIPES["cifar100.transnext_pico"](),
        name=one.name,
        summary=_summary(one),
        model=_model(one),
        model_args=dict(one.row.arguments),
    )
    size = one.row.number("size")
    return recipe if size is None else recipe.with_size(int(size))


def _summary(one: AblationRow) -> str:
    table = paper_table(one.table)
    return f"{table.title}: {one.row.name} ({table.paper}, table {table.number})"


def _model(one: AblationRow) -> str:
    """Return the network's name without the tag of its weights: it is trained from scratch."""
    return str(one.row.model).partition(".")[0]


def _of_model(settings: dict[str, dict[str, Any]], one: AblationRow) -> dict[str, Any]:
    model = _model(one)
    known: Iterator[str] = (start for start in settings if model.startswith(start))
    longest = max(known, key=len, default=None)
    if longest is None:
        raise FovealError(f"{one.name} has no small form for the digits: pass --data with images to train {model} on.")
    return settings[longest]
