"""The options of ``foveal quickstart``."""

from pathlib import Path

from foveal.cli.console import Json


def main(*, out: Path | None = None, seed: int = 0, epochs: int | None = None, json: Json = False) -> None:
    """Train a small TransNeXt on handwritten digits, evaluate it, predict on image files, draw its attention, and write
    a report page. Takes a few minutes on a laptop and downloads nothing.

    Args:
        out: New folder for digits, run and report. Default: foveal-quickstart, or the next free name.
        seed: Random seed.
        epochs: Passes over the training images. Default: as in the recipe.
    """
    from foveal.cli.quickstart import run

    run(out, seed, epochs, json)
