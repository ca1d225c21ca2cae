"""What ``foveal evaluate`` must know of a detector or a segmenter before it looks at images."""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from foveal.cli.console import UsageError
from foveal.cli.evaluate_options import EvaluateOptions
from foveal.errors import FovealError
from foveal.tasks.recipe import BaseRecipe
from foveal.tasks.registry import noun


def weights_file(recipe: BaseRecipe, options: EvaluateOptions) -> Path:
    """The file with the weights. Raises UsageError where none is given: there are none to download."""
    if options.checkpoint is None:
        raise UsageError(f"{recipe.name} has no weights to download: pass the authors' file as --checkpoint.")
    return options.checkpoint


def single_size(recipe: BaseRecipe, options: EvaluateOptions) -> int | None:
    """The one size that was given, or None. Raises UsageError for several."""
    if len(options.size) > 1:
        raise UsageError(f"{recipe.name} is a {noun(recipe.kind)}, which is evaluated at one --size: name one.")
    return options.size[0] if options.size else None


def check_classes(recipe: BaseRecipe, known: Sequence[str], classes: Sequence[str], folder: Path) -> None:
    """Raise FovealError where a network's classes are not those of the images."""
    for number, (own, other) in enumerate(zip_longest(known, classes, fillvalue="missing"), start=1):
        if own != other:
            raise FovealError(
                f"The {noun(recipe.kind)} knows {len(known)} classes and {folder} has {len(classes)}, of which number "
                f"{number} is {own} there and {other} here: pass the --data that it was trained on."
            )
