"""What ``foveal quickstart`` does: training to report on real images that come with the installed packages."""

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from foveal.cli.console import print_json, progress
from foveal.errors import FovealError
from foveal.files import staging_folder
from foveal.plotting import check_drawing
from foveal.report.findings_classification import answers_of, findings
from foveal.report.page import write_page
from foveal.report.page_attention import CREDITS, Attention, attention_of, sample_photograph
from foveal.report.page_explained import explained
from foveal.report.page_next import RunPlace
from foveal.report.page_provenance import duration
from foveal.report.page_quickstart import Results, quickstart_page
from foveal.report.page_run import REPORT, RunReport
from foveal.tasks.classification.data import load_rgb
from foveal.tasks.classification.digits import write_digits
from foveal.tasks.classification.network import Classifier, restore
from foveal.tasks.classification.predict import predict
from foveal.tasks.classification.recipe import Recipe
from foveal.tasks.classification.recipes import get_recipe
from foveal.tasks.recipes import create_task
from foveal.training import fit
from foveal.training.progress import listener_for
from foveal.wording import many

RECIPE = "digits.transnext_atto"
DEFAULT_OUT = "foveal-quickstart"
FILES = 8  # image files to predict on
PHOTO_SIDE, DIGIT_SIDE = 512, 256  # pixels
FLOWER_NOTE = (
    "The network has seen only digits of {size} pixels: a flower, colour and this resolution are new to it. What it "
    "finds similar will be edges, texture and brightness rather than petals. Photograph: {credit}."
)
DIGIT_NOTE = (
    "A {name} of the validation set, enlarged to {side} pixels to give larger maps; the network was trained at {size} "
    "pixels."
)


def run(out: Path | None, seed: int, epochs: int | None, json: bool) -> None:
    """Run all steps, and print where the report is."""
    started = time.monotonic()
    check_drawing()  # fail before the training, not after it
    recipe = _recipe(seed, epochs)
    target = _next_free(Path(DEFAULT_OUT)) if out is None else out
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FovealError(f"{target} already exists: choose another --out, or remove it.")
    with staging_folder(target, "choose another --out") as folder, _one_thread():
        results = _run(recipe, folder, target, started)
        write_page(folder / REPORT, quickstart_page(results))
    if json:
        print_json(_document(results))
    else:
        _print_summary(results)


def _recipe(seed: int, epochs: int | None) -> Recipe:
    recipe = get_recipe(RECIPE)
    train = replace(recipe.train, seed=seed)
    if epochs is not None:
        train = replace(train, epochs=epochs, warmup_epochs=min(train.warmup_epochs, max(epochs - 1, 0)))
    return replace(recipe, train=train)


def _run(recipe: Recipe, folder: Path, target: Path, started: float) -> Results:
    """Run all five steps, with all files in ``folder``."""
    _say("1/5  Writing 1,797 handwritten digits as image files")
    digits = write_digits(folder / "digits")
    _say(f"2/5  Training {recipe.model}")
    task = create_task(recipe, digits)
    outcome = fit(task, recipe.train, folder / "run", listener=listener_for(sys.stderr))
    if outcome.interrupted:
        raise FovealError("The quickstart was stopped before it finished: start it again.")
    _say(f"3/5  Evaluating the weights of the best epoch, {outcome.best_epoch}")
    network = restore(outcome.best_path)
    with progress("Evaluating") as on_batch:
        answers = answers_of(task, network, on_batch)
    _say(f"4/5  Predicting on {FILES} image files")
    predictions = predict(network, _spread(sorted(digits.glob("val/*/*.png")), FILES), top_k=3)
    _say("5/5  Drawing what the network sees")
    digit, flower = Path(predictions[0].path), folder / "flower.png"
    Image.fromarray(sample_photograph("flower", PHOTO_SIDE)).save(flower)
    attention = _attention(network, [Path(one.path) for one in predictions], flower)

    def moved(path: Path) -> Path:
        return target / path.relative_to(folder)

    pictures = explained(outcome.best_path, digit, flower, moved)
    where = _place(recipe, target, moved(digit))
    report = RunReport.of(task, outcome, findings(answers, task.val, network.name), where, folder / "run")
    seconds = time.monotonic() - started
    return Results(report, network, int(answers.right.sum()), predictions, attention, pictures, seconds, target)


def _place(recipe: Recipe, target: Path, image: Path) -> RunPlace:
    digits, run, train = str(target / "digits"), target / "run", recipe.train
    resume = ["foveal", "train", recipe.name, "--data", digits, "--out", str(run), "--seed", str(train.seed)]
    resume += ["--warmup-epochs", str(train.warmup_epochs), "--resume"]
    return RunPlace(run, run / "best.pt", digits, image, resume, train.epochs)


def _attention(network: Classifier, digits: list[Path], flower: Path) -> list[Attention]:
    """Return the attention of the digit of which it shows most, and of the flower."""
    size = network.fit.size[0]
    flower_note = FLOWER_NOTE.format(size=size, credit=CREDITS["flower"])
    return [
        max((_of_digit(network, digit) for digit in digits), key=lambda found: found.balance),
        attention_of(network, "A flower", np.asarray(load_rgb(flower)), flower_note),
    ]


def _of_digit(network: Classifier, digit: Path) -> Attention:
    enlarged = load_rgb(digit).resize((DIGIT_SIDE, DIGIT_SIDE), Image.Resampling.BICUBIC)
    note = DIGIT_NOTE.format(name=digit.parent.name, side=DIGIT_SIDE, size=network.fit.size[0])
    return attention_of(network, "A handwritten digit", np.asarray(enlarged), note)


def _spread(files: list[Path], count: int) -> list[Path]:
    """Return ``count`` of the files, evenly spread over the list."""
    return [files[index * len(files) // count] for index in range(count)]


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread inside the block.

    Two threads are 1.4 times as fast on two idle cores. But if another program takes one of the cores, each of the many
    small operators waits for its second half: up to 40 times slower, as measured.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _next_free(path: Path) -> Path:
    """Return the first of path, path-2, path-3 and so on that does not exist."""
    free, number = path, 1
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _document(results: Results) -> dict[str, object]:
    return {
        "report": str(results.folder / REPORT),
        "checkpoint": str(results.folder / "run" / "best.pt"),
        "digits": str(results.folder / "digits"),
        "model": results.network.name,
        "top1": results.run.outcome.best,
        "right": results.right,
        "images": results.images,
        "epochs": results.run.outcome.epochs,
        "best_epoch": results.run.outcome.best_epoch,
        "images_per_second": results.run.images_per_second,
        "seconds": results.seconds,
        "seed": results.run.task.recipe.train.seed,
    }


def _print_summary(results: Results) -> None:
    accuracy = f"{results.run.best_figure()} ({results.right} of {many(results.images, 'validation image')})"
    print(f"\n  Accuracy  {accuracy}")
    print(f"  Time      {duration(results.seconds)}")
    print(f"  Weights   {results.folder / 'run' / 'best.pt'}")
    print(f"  Report    {results.folder / 'report.html'}")
    print("\nOpen the report in a browser; it also lists commands to run next.")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
