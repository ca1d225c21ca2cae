"""What ``foveal evaluate`` does with its options: the commands of the recipe's task evaluate."""

from foveal.cli.console import UsageError
from foveal.cli.options import EvaluateOptions, commands_of, refuse_others
from foveal.tasks.recipes import get_recipe
from foveal.tasks.registry import noun


def run(recipe: str, options: EvaluateOptions) -> None:
    """Evaluate trained weights by a recipe."""
    chosen = get_recipe(recipe, own_images=options.data is not None)
    refuse_others(options, chosen.kind, f"{recipe} is")
    if options.precision == "int8" and chosen.kind != "classification":
        raise UsageError(f"--precision int8 is for classifiers, and {recipe} is a {noun(chosen.kind)}: pass bf16.")
    commands_of(chosen.kind).evaluate(chosen, options)
