"""Files of `foveal bench --csv`, as another program reads them."""

import csv
from pathlib import Path


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by their column's name, as text."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
