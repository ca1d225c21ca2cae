"""Checks that named files exist, before anything slow is imported or tried."""

import re
from pathlib import Path

from foveal.errors import FovealError

NO_FOLDER = re.compile(r"[:{*?\[]|\.tar$")  # datasets on the hub, URLs, and shards, which are not looked for here


def check_data(data: Path | None) -> None:
    """Raise FovealError if ``--data`` names a folder that is not there; None passes."""
    if data is not None and not NO_FOLDER.search(str(data)) and not data.exists():
        raise FovealError(f"There is no folder {data}: pass --data with the folder of your images.")


def check_checkpoint(path: Path | None) -> None:
    """Raise FovealError if there is no such file of weights; None passes."""
    if path is not None and not path.exists():
        raise FovealError(f"{path} does not exist; pass the path of a downloaded or saved checkpoint.")
