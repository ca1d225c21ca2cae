"""What the evaluations of all tasks write: ``results.json``, after a check of the folder that it goes into."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from foveal.files import atomic_file, check_writable, make_folder
from foveal.plotting import matplotlib

JSON = "results.json"
ADVICE = "choose another --out"


def check_results_folder(folder: Path) -> None:
    """Raise FovealError, before a long evaluation, if its charts and files could not be written into ``folder``."""
    matplotlib("figure")
    check_writable(folder)


def write_document(folder: Path, document: dict[str, Any]) -> None:
    """Write ``document`` as ``results.json`` into ``folder``, which is created if needed.

    Raises:
        FovealError: it cannot be written.
    """
    make_folder(folder, ADVICE)
    with atomic_file(folder / JSON, ADVICE) as part:
        part.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
