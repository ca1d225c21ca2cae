"""Commands to type after a run, with its own paths, quoted for the shell."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

EVALUATED, PREDICTED, EXPORTED = "evaluated", "predicted", "exported.onnx"  # in the folder of the run


@dataclass(frozen=True)
class RunPlace:
    """Where a run and what belongs to it will be when its page is read.

    Attributes:
        folder: of the run.
        checkpoint: its best weights.
        data: the images as they were named; None for those that come with the recipe.
        image: a file to predict on; None if the images are not files.
        resume: the words that continue the run.
        epochs: epochs done.
        exports: whether the network has a form for ``foveal export``.
    """

    folder: Path
    checkpoint: Path
    data: str | None
    image: Path | None
    resume: Sequence[str]
    epochs: int
    exports: bool = True


def next_commands(kind: str, place: RunPlace) -> list[tuple[str, str]]:
    """Return commands to run next, as pairs (purpose, command): evaluate, predict, export, train on."""
    weights = ["--checkpoint", str(place.checkpoint)]
    data = [] if place.data is None else ["--data", place.data]
    image = "IMAGE.jpg" if place.image is None else str(place.image)
    drawn = [] if kind == "classification" else ["--out", str(place.folder / PREDICTED)]
    pairs = [
        (
            "Evaluate the weights again, with details as files",
            ["evaluate", *weights, *data, "--out", str(place.folder / EVALUATED)],
        ),
        ("Predict on an image, a folder or a video", ["predict", image, *weights, *drawn]),
        ("Train this run for twice as long", [*place.resume[1:], "--epochs", str(2 * place.epochs)]),
    ]
    if place.exports:
        words = ["export", *weights, "--format", "onnx", "--out", str(place.folder / EXPORTED)]
        pairs.insert(2, ('Write a file for ONNX Runtime (needs pip install "foveal[export]")', words))
    return [(purpose, shlex.join(["foveal", *words])) for purpose, words in pairs]
