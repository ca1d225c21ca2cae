"""How the entropy of a TransNeXt's attention grows with the image, with and without length scaling.

    python benchmarks/entropy.py
    python benchmarks/entropy.py --digits runs/entropy --sizes 64 96 128 192 256

Cosine attention multiplies similarities by a factor lambda. The paper estimates the entropy over n keys as log n minus
a multiple of lambda plus a constant (TransNeXt, equation 8), and takes lambda = tau log n, with which the entropy need
not grow with n; with the lambda of the training size it grows as log n. So the figure is a slope: nats of entropy per
nat of log n, by least squares over the sizes. 0 is the invariance that the paper claims; 1 is attention that spreads
over more keys as they become more. It is of a network with random weights on photographs of scikit-image and
scikit-learn, or of one that is trained here on handwritten digits of 64 pixels, on those of the validation set.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import skimage.data
import sklearn.datasets
import torch
from PIL import Image

from foveal.explain import WatchedAttention, watch_attention
from foveal.report.explanation.subject import Subject, create_subject, open_subject
from foveal.tasks.classification.digits import write_digits
from foveal.tasks.recipes import create_task, get_recipe
from foveal.training import fit

MODES = {
    "length scaling": {"length_scaling": True, "position_bias": "extrapolate"},
    "length scaling, interpolated bias": {"length_scaling": True, "position_bias": "interpolate"},
    "plain scaling": {"length_scaling": False, "position_bias": "extrapolate"},
}
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket", "hubble_deep_field", "retina")
GRID = 12  # queries per axis
STAGES = 4
TRAINED_AT, EPOCHS = 64, 12  # pixels


@dataclass(frozen=True)
class Measured:
    """Means of one block over images, queries and heads: entropy in nats, and log of the number of keys."""

    stage: int
    entropy: float
    log_keys: float


def measure(subject: Subject, images: Sequence[Image.Image], size: int) -> list[Measured]:
    """Return what every block of a network does on images of this side, in the mode that the network is in."""
    there = replace(subject, fit=replace(subject.fit, size=(size, size)))
    watched = [watch_attention(subject.body, there.photograph(image, "").tensor) for image in images]
    found = []
    for stage, block in watched[0].blocks:
        entropy, log_keys = np.mean([_of_block(one, stage, block) for one in watched], axis=0)
        found.append(Measured(stage, float(entropy), float(log_keys)))
    return found


def _of_block(watched: WatchedAttention, stage: int, block: int) -> tuple[float, float]:
    layer = watched.layer(stage, block)
    axes = [torch.linspace(0, side - 1, min(side, GRID)).round().long() for side in layer.size]
    rows, columns = (positions.flatten() for positions in torch.meshgrid(*axes, indexing="ij"))
    weights = layer.weights(rows, columns)
    entropy = torch.special.entr(weights.window).sum(-1) + torch.special.entr(weights.pooled).sum(-1)
    keys = weights.inside.sum(-1) + weights.pooled.shape[-1]
    return float(entropy.mean()), float(keys.double().log().mean())


def growth(blocks: Sequence[Sequence[Measured]], stage: int) -> float:
    """Return the slope of the entropy over log n of one stage, as the mean over its blocks.

    Args:
        blocks: what ``measure`` returned, for each size.
        stage: counted from 0.
    """
    slopes = []
    for sizes in zip(*blocks, strict=True):
        if sizes[0].stage == stage:
            slopes.append(np.polyfit([one.log_keys for one in sizes], [one.entropy for one in sizes], 1)[0])
    return float(np.mean(slopes))


def photographs() -> list[Image.Image]:
    """Return colour photographs that scikit-image and scikit-learn are installed with."""
    arrays: list[np.ndarray] = [getattr(skimage.data, name)() for name in PHOTOGRAPHS]
    return [Image.fromarray(array) for array in (*arrays, *sklearn.datasets.load_sample_images().images)]


def trained(folder: Path, seed: int) -> Subject:
    """Return a network of the digits recipe for images of 64 pixels, trained in ``folder`` unless it holds one."""
    best = folder / "run" / "best.pt"
    if not best.exists():
        recipe = get_recipe("digits.transnext_atto").with_size(TRAINED_AT).with_training(epochs=EPOCHS, seed=seed)
        recipe = replace(recipe, model_args={"pretrain_size": TRAINED_AT})
        outcome = fit(create_task(recipe, write_digits(folder / "digits")), recipe.train, best.parent)
        print(f"{recipe.name} at {TRAINED_AT} pixels, {EPOCHS} epochs: top-1 {outcome.best:.2f} %")
    return open_subject(best)


def digits(folder: Path, per_class: int = 2) -> list[Image.Image]:
    """Return the first validation digits of every class."""
    files = [sorted(one.iterdir())[:per_class] for one in sorted((folder / "val").iterdir())]
    return [Image.open(file).convert("RGB") for group in files for file in group]


def report(subject: Subject, images: Sequence[Image.Image], sizes: Sequence[int]) -> None:
    """Print the mean entropy by size and stage, and its growth, in every mode."""
    print(
        f"{subject.caption}, {len(images)} images; stages 1 to {STAGES}, entropy in nats at each size, then its slope"
    )
    for mode, settings in MODES.items():
        subject.body.set_input_size(**settings)
        blocks = [measure(subject, images, size) for size in sizes]
        print(mode)
        for stage in range(STAGES):
            entropies = [np.mean([b.entropy for b in at_size if b.stage == stage]) for at_size in blocks]
            print(f"  {stage + 1}  " + " ".join(f"{e:6.2f}" for e in entropies) + f"   {growth(blocks, stage):+.2f}")
    keys = [[np.exp(next(b.log_keys for b in at if b.stage == stage)) for at in blocks] for stage in range(STAGES)]
    print("keys per query: " + "; ".join(", ".join(f"{n:.0f}" for n in of_stage) for of_stage in keys))


def main() -> None:
    """Measure a network with random weights, or one that was trained on digits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="transnext_tiny", help="a TransNeXt, with random weights")
    parser.add_argument("--digits", type=Path, metavar="FOLDER", help="train a network on digits there, or find it")
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 320, 448, 640])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.digits is None:
        report(create_subject(options.model, seed=options.seed), photographs(), options.sizes)
    else:
        subject = trained(options.digits, options.seed)
        report(subject, digits(options.digits / "digits"), options.sizes)


if __name__ == "__main__":
    main()
