"""What is run for a table: its rows, each with several seeds, and the folder that they share."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from foveal.errors import FovealError
from foveal.files import atomic_file, file_lock, make_folder
from foveal.near import did_you_mean
from foveal.papers import PaperTable
from foveal.tasks.classification.ablations import AblationRow, ablation_rows, ablation_table, slug
from foveal.tasks.classification.recipe import Recipe
from foveal.training.config import FREE_ON_RESUME
from foveal.training.journal import BEGINNING

SETTINGS, LOCK = "table.json", ".table.lock"
ELSEWHERE = "choose another --out"


@dataclass(frozen=True)
class SeedRun:
    """One run: a row of the table, trained with one seed.

    Attributes:
        row: the row's name to type.
        seed: of all randomness.
        folder: of the run.
    """

    row: str
    seed: int
    folder: Path

    def __str__(self) -> str:
        return f"{self.row}, seed {self.seed}"


@dataclass(frozen=True)
class TableRun:
    """A table to run.

    Attributes:
        name: the table's name ("transnext.roadmap").
        slugs: the rows to run, by their names to type, in the paper's order.
        seeds: the number of seeds, from 0.
        out: the folder of all runs and results.
        data: the images; None for the digits.
        settings: training settings that differ from the recipes', the same for all rows.
    """

    name: str
    slugs: tuple[str, ...]
    seeds: int
    out: Path
    data: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def create(
        cls,
        name: str,
        *,
        rows: Sequence[str] = (),
        seeds: int = 3,
        out: Path | None = None,
        data: Path | None = None,
        settings: dict[str, Any] | None = None,
    ) -> "TableRun":
        """Plan a table; ``rows`` are names to type or the paper's, and none stands for all.

        Raises:
            FovealError: there is no such table or row, or no seed.
        """
        known = [row.slug for row in ablation_rows(ablation_table(name))]
        if not known:
            raise FovealError(f"foveal has no network for the rows of {name}: choose another table of `foveal ablate`.")
        if seeds < 1:
            raise FovealError(f"--seeds must be at least 1, not {seeds}.")
        asked = {_row(name, known, row) for row in rows}
        chosen = tuple(one for one in known if not asked or one in asked)
        return cls(name, chosen, seeds, out or Path("runs", f"ablation.{name}"), data, settings or {})

    @cached_property
    def table(self) -> PaperTable:
        """The table as the paper has it."""
        return ablation_table(self.name)

    @cached_property
    def rows(self) -> list[AblationRow]:
        """The rows to run, in the paper's order."""
        return [row for row in ablation_rows(self.table) if row.slug in self.slugs]

    @property
    def runs(self) -> list[SeedRun]:
        """All runs: every row with the first seed, then with the next, so that the table is soon seen whole."""
        return [self.run(row, seed) for seed in range(self.seeds) for row in self.slugs]

    def run(self, row: str, seed: int) -> SeedRun:
        """Return the run of a row with a seed."""
        return SeedRun(row, seed, self.out / f"{row}.seed{seed}")

    def recipe(self, run: SeedRun) -> Recipe:
        """Return the recipe of a run."""
        row = next(row for row in self.rows if row.slug == run.row)
        return row.recipe(small=self.data is None).with_training(**self.settings, seed=run.seed)

    def claim(self) -> None:
        """Write the settings of this table into its folder, or compare them with those that are there.

        More seeds and other rows may follow in the same folder.

        Raises:
            FovealError: the folder holds a table with other settings, or cannot be written.
        """
        make_folder(self.out, ELSEWHERE)
        with file_lock(self.out / LOCK, ELSEWHERE, wait=True):
            before = read_settings(self.out)
            if not any(self.out.glob(f"*.seed*/{BEGINNING}")):
                before = None  # no run has begun with those settings
            now = self.document()
            if before is not None:
                _refuse_other_settings(self.out, before, now)
                now["rows"] = {**before["rows"], **now["rows"]}
            if now != before:
                with atomic_file(self.out / SETTINGS, ELSEWHERE) as part:
                    part.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")

    def whole(self) -> "TableRun":
        """Return the plan of all rows and seeds in the folder, of which these may be a part."""
        settings = read_settings(self.out)
        rows = {*self.slugs, *([] if settings is None else settings["rows"])}
        slugs = tuple(row.slug for row in ablation_rows(self.table) if row.slug in rows)
        runs = (path.name.rpartition(".seed") for path in self.out.glob("*.seed*"))
        seeds = [int(seed) + 1 for row, _, seed in runs if row in rows and seed.isdecimal()]
        return replace(self, slugs=slugs, seeds=max([self.seeds, *seeds]))

    def document(self) -> dict[str, Any]:
        """Return what must stay the same in a folder, in plain types: of the rows, and common to all."""
        recipes = {row: self.recipe(self.run(row, 0)) for row in self.slugs}
        common = next(iter(recipes.values()))
        data = None if self.data is None else str(self.data)
        document = {
            "table": self.name,
            "data": data,
            **{name: value for name, value in asdict(common.train).items() if name not in FREE_ON_RESUME | {"seed"}},
            "augmentation": asdict(common.augment),
            "drop_path": common.drop_path,
            "rows": {
                row: {"model": recipe.model, "model_args": recipe.model_args, "preprocessing": asdict(recipe.fit)}
                for row, recipe in recipes.items()
            },
        }
        plain: dict[str, Any] = json.loads(json.dumps(document))
        return plain


def read_settings(out: Path) -> dict[str, Any] | None:
    """Return the settings in the folder of a table; None if it holds no table."""
    path = out / SETTINGS
    if not path.exists():
        return None
    return read_document(path, ("table", "rows"))


def read_document(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """Return what a JSON file of the table's folder holds.

    Raises:
        FovealError: it is damaged, or lacks one of ``names``.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or not all(name in found for name in names):
        raise FovealError(f"{path} is damaged: delete it, and run the same command again.")
    return found


def _refuse_other_settings(out: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    def refuse(what: str, then: Any, asked: Any) -> None:
        raise FovealError(
            f"{out} holds runs with {what} = {then}, not {asked}: pass the settings they were started with, or choose "
            "another --out."
        )

    for name in now:  # in order, so that what the user chose comes before what follows from it
        if name != "rows" and before.get(name) != now[name]:
            refuse(name, before.get(name), now[name])
    for row in before["rows"]:
        if row not in now["rows"]:
            continue
        for name, value in now["rows"][row].items():
            if before["rows"][row].get(name) != value:
                refuse(f"{name} of {row}", before["rows"][row].get(name), value)


def _row(table: str, known: Sequence[str], asked: str) -> str:
    """Return the name to type of a row that was asked for by that name or by the paper's."""
    name = slug(asked)
    if name in known:
        return name
    guess = did_you_mean(name, known)
    raise FovealError(f"{table} has no row {asked!r} to run{guess}: `foveal ablate {table} --dry-run` lists them.")
