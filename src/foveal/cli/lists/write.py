"""Write the lists of models and recipes again: ``python -m foveal.cli.lists.write``. It counts every model."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from foveal.cli.lists import FOLDER, MODELS, RECIPES
from foveal.files import atomic_file
from foveal.models.catalogue import catalogue
from foveal.tasks.recipes import list_ablations, list_recipes


def main() -> None:
    """Count every model, and write both lists."""
    _write(FOLDER / MODELS, [asdict(entry) for entry in catalogue()])
    _write(FOLDER / RECIPES, [{"name": r.name, "summary": r.summary} for r in (*list_recipes(), *list_ablations())])


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with atomic_file(path) as staged, staged.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
