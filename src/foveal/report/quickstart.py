"""The report of `foveal quickstart`: what was learned, what it gets wrong, where it looks, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from foveal.models import flops
from foveal.report.attention import Attention, attention_pictures
from foveal.report.classification import confusion, examples, predictions_on_files
from foveal.report.markup import el
from foveal.report.page import page, section
from foveal.report.pieces import commands, facts, headline
from foveal.report.provenance import provenance
from foveal.report.training import training_curves
from foveal.tasks.classification.evaluate import Evaluation
from foveal.tasks.classification.network import Classifier
from foveal.tasks.classification.predict import Prediction
from foveal.tasks.classification.recipe import Recipe
from foveal.training import Outcome

PREDICTIONS = (
    "The weights of the best epoch read image files from disk, as foveal predict does. Each file comes with its three "
    "most probable classes."
)


@dataclass(frozen=True)
class Results:
    """All that the page tells. `folder` is where digits, run and report lie in the end; `seconds`, the time in all."""

    recipe: Recipe
    network: Classifier
    outcome: Outcome
    evaluation: Evaluation
    predictions: Sequence[Prediction]
    attention: Sequence[Attention]
    seconds: float
    folder: Path

    @property
    def images(self) -> int:
        return len(self.evaluation.targets)

    @property
    def right(self) -> int:
        return int((self.evaluation.predictions == self.evaluation.targets).sum())

    @property
    def images_per_second(self) -> float:
        """Of training, over all epochs."""
        return fmean(record["images_per_second"] for record in self.outcome.history)


def quickstart_page(results: Results) -> str:
    """The whole HTML document."""
    content = (
        headline(_headline(results)),
        section("How it learned", training_curves(results.outcome.history)),
        section("What it confuses", confusion(results.evaluation)),
        section("Examples", examples(results.evaluation)),
        section("Predictions on image files", el("p", PREDICTIONS), predictions_on_files(results.predictions)),
        section("Where it looks", attention_pictures(results.attention)),
        section("Your turn", commands(next_commands(results))),
        section("How this page was made", facts(_facts(results))),
    )
    return page("foveal quickstart", _lead(results), content)


def next_commands(results: Results) -> list[tuple[str, str]]:
    """What one can type next, as (why, the command)."""
    best, digits = (shlex.quote(str(results.folder / part)) for part in ("run/best.pt", "digits"))
    image = shlex.quote(str(results.folder / "digits" / "val" / "/".join(Path(results.predictions[0].path).parts[-2:])))
    name = results.recipe.name
    return [
        ("Predict on an image file", f"foveal predict {image} --checkpoint {best}"),
        ("Evaluate the weights again", f"foveal evaluate {name} --checkpoint {best} --data {digits}"),
        (
            "Train again, with settings of your own",
            f"foveal train {name} --data {digits} --epochs 40 --out runs/digits",
        ),
        (
            "Fine-tune released weights on your own images: MY_IMAGES/train/CLASS/*.jpg, MY_IMAGES/val/CLASS/*.jpg",
            "foveal train finetune.transnext_micro --pretrained --data MY_IMAGES",
        ),
        ("See every model", "foveal models"),
    ]


def duration(seconds: float) -> str:
    """For a person: "41 s", "2 min 41 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _lead(results: Results) -> str:
    return (
        f"A small TransNeXt ({results.network.name}) learned to read handwritten digits on this computer. Of "
        f"{results.images} images that it was not trained on, it reads {results.right} correctly."
    )


def _headline(results: Results) -> dict[str, str]:
    size = results.network.fit.size
    cost = flops(results.network.model, size)
    return {
        "Validation accuracy": f"{results.evaluation.top1:.1f} %",
        "Time in all": duration(results.seconds),
        "Training, images/s": f"{results.images_per_second:.0f}",
        "Parameters": f"{cost.params / 1e6:.2f} M",
        f"Multiply-adds at {size[0]} x {size[1]}": f"{cost.macs / 1e6:.1f} M",
    }


def _facts(results: Results) -> dict[str, str]:
    train, outcome = results.recipe.train, results.outcome
    return {
        "Recipe": f"{results.recipe.name}: {outcome.epochs} epochs in {duration(outcome.seconds)}",
        "Images": (
            f"scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, resized to {results.network.fit.size[0]}; "
            f"{results.images} of them are kept for validation"
        ),
        "Weights": (
            f"of epoch {outcome.best_epoch}, the best on these same validation images: a choice that flatters the "
            "accuracy a little"
        ),
        "Seed": f"{train.seed}: the same seed gives the same numbers on the same machine",
        **provenance(),
    }
