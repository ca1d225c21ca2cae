"""The report page of ``foveal quickstart``: training curves, errors, attention, and what to run next."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from statistics import fmean

import foveal
from foveal.bench.machine import source_commit
from foveal.models import flops
from foveal.report.page import commands, el, facts, headline, page, section
from foveal.report.page_attention import Attention, attention_pictures
from foveal.report.page_classification import confusion, examples, predictions_on_files
from foveal.report.page_curves import training_curves
from foveal.report.page_explained import Explained, explained_pictures
from foveal.tasks.classification.evaluate import Evaluation
from foveal.tasks.classification.network import Classifier
from foveal.tasks.classification.predict import Prediction
from foveal.tasks.classification.recipe import Recipe
from foveal.training import Outcome

PACKAGES = {"PyTorch": "torch", "timm": "timm", "NumPy": "numpy"}
PREDICTIONS = (
    "Predictions of the best epoch's weights on image files, as foveal predict makes them, with the three most "
    "probable classes of each file."
)


@dataclass(frozen=True)
class Results:
    """Everything that the page shows.

    Attributes:
        folder: where the digits, the run and the report end up.
        seconds: duration of the whole quickstart.
    """

    recipe: Recipe
    network: Classifier
    outcome: Outcome
    evaluation: Evaluation
    predictions: Sequence[Prediction]
    attention: Sequence[Attention]
    explained: Sequence[Explained]
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
        """Training speed, averaged over all epochs."""
        return fmean(record["images_per_second"] for record in self.outcome.history)


def quickstart_page(results: Results) -> str:
    """Return the complete HTML document."""
    content = (
        headline(_headline(results)),
        section("How it learned", training_curves(results.outcome.history)),
        section("What it confuses", confusion(results.evaluation)),
        section("Examples", examples(results.evaluation)),
        section("Predictions on image files", el("p", PREDICTIONS), predictions_on_files(results.predictions)),
        section("Where it looks", attention_pictures(results.attention)),
        section("What it sees", explained_pictures(results.explained)),
        section("Your turn", commands(next_commands(results))),
        section("How this page was made", facts(_facts(results))),
    )
    return page("foveal quickstart", _lead(results), content)


def next_commands(results: Results) -> list[tuple[str, str]]:
    """Return commands to run next, as pairs (purpose, command)."""
    best, digits = (shlex.quote(str(results.folder / part)) for part in ("run/best.pt", "digits"))
    image = shlex.quote(str(results.folder / "digits" / "val" / "/".join(Path(results.predictions[0].path).parts[-2:])))
    name = results.recipe.name
    return [
        ("Predict on an image file", f"foveal predict {image} --checkpoint {best}"),
        ("Evaluate the weights again", f"foveal evaluate {name} --checkpoint {best} --data {digits}"),
        (
            "Train again with your own settings",
            f"foveal train {name} --data {digits} --epochs 40 --out runs/digits",
        ),
        (
            "Fine-tune released weights on your own images: MY_IMAGES/train/CLASS/*.jpg, MY_IMAGES/val/CLASS/*.jpg",
            "foveal train finetune.transnext_micro --pretrained --data MY_IMAGES",
        ),
        ("List all models", "foveal models"),
    ]


def duration(seconds: float) -> str:
    """Format a duration: "41 s", "2 min 41 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def provenance() -> dict[str, str]:
    """Return versions, time and machine, name -> value; without the commit if foveal does not run from its
    repository."""
    commit = source_commit()
    return {
        "foveal": foveal.__version__ if commit is None else f"{foveal.__version__}, commit {commit}",
        **{name: version(package) for name, package in PACKAGES.items()},
        "Python": platform.python_version(),
        "Created": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "Machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
    }


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
        "Total time": duration(results.seconds),
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
            f"of epoch {outcome.best_epoch}, the best on these same validation images, which makes the accuracy "
            "slightly optimistic"
        ),
        "Seed": f"{train.seed}: the same seed gives the same numbers on the same machine",
        **provenance(),
    }
