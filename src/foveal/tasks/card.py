"""The card of a file of ``foveal train``: what it says of the network in it."""

from pathlib import Path
from typing import Any

from foveal.errors import FovealError

#: Task -> what it trains.
NOUNS = {"classification": "classifier", "detection": "detector", "segmentation": "segmenter"}


def check_task(card: dict[str, Any], path: Path, task: str) -> None:
    """Raise FovealError where a file says that it holds another task's network; one that says nothing a classifier."""
    found = card.get("task", "classification")
    if found != task:
        noun = NOUNS.get(found, f"network for {found}")
        raise FovealError(
            f"{path} holds a {noun} ({card.get(noun, card['model'])}), and no {NOUNS[task]}: pass the recipe that it "
            "was trained by."
        )
