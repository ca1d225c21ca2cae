"""The report page of ``foveal quickstart``: the report of its run, with predictions, attention and explanations."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foveal.models import flops
from foveal.report.page import el, facts, section
from foveal.report.page_attention import Attention, attention_pictures
from foveal.report.page_classification import predictions_on_files
from foveal.report.page_explained import Explained, explained_pictures
from foveal.report.page_provenance import duration
from foveal.report.page_run import RunReport, run_page
from foveal.tasks.classification.network import Classifier
from foveal.tasks.classification.predict import Prediction
from foveal.wording import TIMES, in_units

PREDICTIONS = (
    "Predictions of the best epoch's weights on image files, as foveal predict makes them, with the three most "
    "probable classes of each file."
)


@dataclass(frozen=True)
class Results:
    """Everything that the page shows.

    Attributes:
        run: the run, and what its network gets right and wrong.
        right: validation images that it classifies correctly.
        seconds: duration of the whole quickstart.
        folder: where the digits, the run and the report end up.
    """

    run: RunReport
    network: Classifier
    right: int
    predictions: Sequence[Prediction]
    attention: Sequence[Attention]
    explained: Sequence[Explained]
    seconds: float
    folder: Path

    @property
    def images(self) -> int:
        """Number of validation images."""
        return self.run.findings.images


def quickstart_page(results: Results) -> str:
    """Return the complete HTML document."""
    return run_page(
        results.run,
        "foveal quickstart",
        _numbers(results),
        [
            section("Predictions on image files", el("p", PREDICTIONS), predictions_on_files(results.predictions)),
            section("Where it looks", attention_pictures(results.attention)),
            section("What it sees", explained_pictures(results.explained)),
        ],
        further_commands(results),
        facts({"Digits": _digits(results), "Whole quickstart": duration(results.seconds)}),
    )


def further_commands(results: Results) -> list[tuple[str, str]]:
    """Return commands to run next that are not about this run, as pairs (purpose, command)."""
    digits, name = shlex.quote(str(results.folder / "digits")), results.run.task.recipe.name
    return [
        (
            "Train again with your own settings",
            f"foveal train {name} --data {digits} --epochs 40 --out runs/digits",
        ),
        (
            "Train on your own images: MY_IMAGES/train/CLASS/*.jpg, MY_IMAGES/val/CLASS/*.jpg",
            "foveal train photos.transnext_micro --data MY_IMAGES",
        ),
        ("List all models", "foveal models"),
    ]


def _numbers(results: Results) -> dict[str, str]:
    size = results.network.fit.size
    cost = flops(results.network.model, size)
    return {
        "Total time": duration(results.seconds),
        "Training, images/s": f"{results.run.images_per_second:.0f}",
        "Parameters": f"{in_units(cost.params, 1e6)} M",
        f"Multiply-adds at {size[0]}{TIMES}{size[1]}": f"{in_units(cost.macs, 1e6)} M",
    }


def _digits(results: Results) -> str:
    return (
        f"scikit-learn's 1,797 handwritten digits of 8{TIMES}8 pixels, resized to {results.network.fit.size[0]}; "
        f"{results.images} of them are kept for validation"
    )
