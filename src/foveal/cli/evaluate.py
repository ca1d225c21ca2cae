"""``foveal evaluate``: how good a checkpoint is, at one size or several."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from foveal.cli.console import Json, UsageError, print_json, progress
from foveal.tasks.classification.evaluate import Evaluation, evaluate
from foveal.tasks.classification.network import restore
from foveal.tasks.classification.recipes import get_recipe
from foveal.tasks.classification.task import data_folder


@dataclass(frozen=True)
class Row:
    """The evaluation at one size."""

    size: tuple[int, int]
    pool_size: int | None
    result: Evaluation

    def document(self) -> dict[str, Any]:
        return {
            "size": list(self.size),
            "pool_size": self.pool_size,
            "images": len(self.result.targets),
            "top1": self.result.top1,
            "top5": self.result.top5,
            "loss": self.result.loss,
            "images_per_second": self.result.images_per_second,
        }


def main(
    recipe: Annotated[Positional[str], arg(metavar="RECIPE")],
    *,
    checkpoint: Path,
    data: Path | None = None,
    model: str | None = None,
    size: tuple[int, ...] = (),
    pool_size: int | None = None,
    split: str = "val",
    batch_size: int = 64,
    workers: int = 2,
    json: Json = False,
) -> None:
    """Top-1 and top-5 of a checkpoint on a folder of images.

    A file of foveal train says itself which model, classes and image treatment it has; for released weights the recipe
    does.

    Args:
        recipe: Name of the recipe.
        checkpoint: File with the weights: best.pt of a run, or released ones.
        data: Folder with val/<class>/; the recipe's own images if it has some.
        model: Model in the file, where neither the file nor the recipe says it right.
        size: Side of the square images in pixels, one or more; that of training if left out.
        pool_size: Linear mode of TransNeXt: pool keys and values to this size whatever the image's.
        split: Folder of --data to evaluate on.
        batch_size: Images at a time.
        workers: Loading processes.
    """
    if batch_size < 1:
        raise UsageError(f"--batch-size must be at least 1, not {batch_size}.")
    if workers < 0:
        raise UsageError(f"--workers must be at least 0, not {workers}.")
    chosen = get_recipe(recipe)
    rows = []
    for side in size or (None,):
        square = None if side is None else (side, side)
        classifier = restore(checkpoint, model, size=square, pool_size=pool_size, recipe=chosen)
        folder = data_folder(chosen, data)  # may write images: not for a file that cannot be evaluated
        with progress(f"Evaluating at {classifier.fit.size[0]} pixels") as on_batch:
            result = evaluate(
                classifier, folder, split=split, batch_size=batch_size, workers=workers, on_batch=on_batch
            )
        rows.append(Row(classifier.fit.size, pool_size, result))
    if json:
        document = {
            "recipe": recipe,
            "model": classifier.name,
            "checkpoint": str(checkpoint),
            "data": str(folder / split),
        }
        print_json({**document, "results": [row.document() for row in rows]})
    else:
        _print_table(rows)


def _print_table(rows: list[Row]) -> None:
    print("     size  images   top-1   top-5    loss  images/s")
    for row in rows:
        result = row.result
        print(
            f"{row.size[0]:>4}x{row.size[1]:<4} {len(result.targets):>7}  {result.top1:6.2f}  {result.top5:6.2f}  "
            f"{result.loss:6.4f}  {result.images_per_second:8.1f}"
        )
