"""Compare fine-tuning on a small dataset with training from scratch for equally many updates, on real handwriting.

An image shows two handwritten digits of scikit-learn's dataset side by side; a class is a pair such as "38". A first
model is trained on ninety pairs with 25 images each. The other ten pairs, with 20 images each of other digits, are then
learned in three ways: from that checkpoint with the recipe ``finetune.transnext_atto``, from scratch with the same
recipe, and from scratch with the digits recipe, which is designed for that. All three train for the same epochs on the
same images. Neither digit alone identifies one of the ten pairs.

    python benchmarks/fine_tuning.py [--seeds 3]
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from foveal.tasks.classification.recipes import Recipe, get_recipe
from foveal.tasks.recipes import create_task
from foveal.training import Outcome, fit

EPOCHS_BEFORE, EPOCHS = 8, 8
SECOND = [(left, right) for left in (1, 3, 5, 8, 9) for right in (8, 9)]
FIRST = [(left, right) for left in range(10) for right in range(10) if (left, right) not in SECOND]


def main() -> None:
    """Print one line per run, and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    results = []
    for seed in range(parser.parse_args().seeds):
        with tempfile.TemporaryDirectory() as folder:
            results.append(compare(Path(folder), seed))
    means = {name: np.mean([result[name] for result in results]) for name in results[0]}
    print("mean    ", "  ".join(f"{name} {value:5.1f} %" for name, value in means.items()))


def compare(folder: Path, seed: int) -> dict[str, float]:
    """Return the best top-1 in percent, on 300 images of digits that are in no training set."""
    write_folders(folder, seed)
    scratch, tuning = (
        small(get_recipe("digits.transnext_atto"), seed),
        small(get_recipe("finetune.transnext_atto"), seed),
    )
    before = replace(scratch, train=replace(scratch.train, epochs=EPOCHS_BEFORE))
    weights = run(before, folder / "first", folder / "before").best_path
    outcomes = {
        "from a checkpoint": run(tuning, folder / "second", folder / "tuned", weights),
        "from scratch": run(scratch, folder / "second", folder / "scratch"),
        "from scratch, fine-tuning's settings": run(
            replace(tuning, starts_from_weights=False), folder / "second", folder / "same"
        ),
    }
    for name, outcome in outcomes.items():
        print(f"seed {seed}  {name}: {outcome.best:.1f} % in {outcome.seconds:.0f} s", flush=True)
    return {name: outcome.best for name, outcome in outcomes.items()}


def small(recipe: Recipe, seed: int) -> Recipe:
    """Adapt a recipe to images of 32 pixels and few updates, without flips and colour augmentation."""
    gentle = get_recipe("digits.transnext_atto").augment
    train = replace(recipe.train, epochs=EPOCHS, warmup_epochs=2, batch_size=20, workers=0, seed=seed)
    fit = get_recipe("digits.transnext_atto").fit
    return replace(recipe, fit=fit, augment=gentle, train=train, model_args={"pretrain_size": 32}, drop_path=0.0)


def run(recipe: Recipe, data: Path, out: Path, weights: Path | None = None) -> Outcome:
    """Train without output."""
    return fit(create_task(recipe, data, checkpoint=weights), recipe.train, out)


def write_folders(folder: Path, seed: int) -> None:
    """Write ``first`` and ``second``, each with train and val; the four share no digits."""
    from sklearn.datasets import load_digits

    digits, draw = load_digits(), np.random.default_rng(seed)
    by_label = {label: draw.permutation(np.flatnonzero(digits.target == label)) for label in range(10)}
    parts = {  # share of the digits, pairs, images per class
        "first/train": (0.0, 0.5, FIRST, 25),
        "first/val": (0.5, 0.6, FIRST, 3),
        "second/train": (0.6, 0.8, SECOND, 20),
        "second/val": (0.8, 1.0, SECOND, 30),
    }
    for name, (start, end, pairs, count) in parts.items():
        share = {label: own[int(start * len(own)) : int(end * len(own))] for label, own in by_label.items()}
        for left, right in pairs:
            place = folder / name / f"{left}{right}"
            place.mkdir(parents=True)
            for number in range(count):
                two = [digits.images[draw.choice(share[label])] for label in (left, right)]
                square = np.zeros((16, 16))
                square[4:12] = np.hstack(two)
                Image.fromarray(np.round(square * 255 / 16).astype(np.uint8)).save(place / f"{number}.png")


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"{time.monotonic() - started:.0f} s in all")
