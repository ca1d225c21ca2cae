"""Search for the "2M-sized model" of TransNeXt's CIFAR-100 ablations (tables 7 and 8), which is not published.

    python benchmarks/cifar_size.py

The paper prints 2.3 M parameters for all rows, and 0.50, 0.52, 0.54 and 0.57 G multiply-adds for windows of 3, 5, 7
and 9. Networks at 224 pixels are counted by a formula, which is first compared with ``foveal.flops``. Those that print
the same figures are listed if their channel mixers have ratios of the paper's networks; all are counted.
"""

import itertools
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import timm
import torch

import foveal

MACS_G = {3: 0.50, 5: 0.52, 7: 0.54, 9: 0.57}  # by window
PARAMS_M = 2.3
USUAL_RATIOS = ((8, 8, 4, 4), (4, 4, 4, 4))
STEM, POOLED = 56, 7  # sides of the first map and of all pooled maps
HIDDEN = 512  # hidden width of the position bias's network


class Candidate(NamedTuple):
    """Widths, ratios of the channel mixers and blocks per stage, and the classes of the head."""

    widths: tuple[int, ...]
    ratios: tuple[int, ...]
    depths: tuple[int, ...]
    classes: int


def candidates() -> Iterator[Candidate]:
    """Yield every combination that is tried: heads of 24 channels, widths that do not fall."""
    multiples = [range(24, 49, 24), range(24, 97, 24), range(48, 193, 24), range(96, 385, 24)]
    for widths in itertools.product(*multiples):
        if list(widths) != sorted(widths):
            continue
        for ratios in itertools.product((4, 8), (4, 8), (4, 8), (2, 4, 8)):
            for depths in itertools.product(range(1, 6), range(1, 6), range(1, 13), range(1, 4)):
                for classes in (100, 1000):
                    yield Candidate(widths, ratios, depths, classes)


@cache
def embedding(stage: int, previous: int, width: int) -> tuple[int, int]:
    """Return parameters and multiply-adds of a stage's patch embedding and its last LayerNorm."""
    area, tokens = (49 if stage == 0 else 9) * previous, (STEM >> stage) ** 2
    return area * width + 5 * width, tokens * (area * width + 10 * width)


@cache
def block(stage: int, width: int, ratio: int) -> tuple[int, int]:
    """Return parameters and multiply-adds of a block, with a window of 3 in the first three stages."""
    side, heads, hidden, square = STEM >> stage, width // 24, int(2 * width * ratio / 3), width * width
    tokens, per_offset = side * side, HIDDEN * (2 + heads)
    glu = 3 * width * hidden + 12 * hidden + width
    params = glu + 5 * width + heads + 3 * HIDDEN + HIDDEN * heads + heads  # norms, embedding, temperature, bias
    macs = tokens * (3 * width * hidden + 9 * hidden + 10 * width)
    if stage == 3:
        attention = tokens * (4 * square + 2 * tokens * width) + (2 * side - 1) ** 2 * per_offset
        return params + 4 * square + 4 * width, macs + attention
    offsets = (side + (POOLED - 1) * (side // POOLED)) ** 2
    attention = tokens * (5 * square + width + width * (3 * 9 + 2 * POOLED**2)) + offsets * per_offset
    pooled = POOLED**2 * (2 * square + 5 * width)
    return params + 5 * square + 16 * width + 18 * heads, macs + attention + pooled


def count(one: Candidate) -> tuple[int, list[int]]:
    """Return parameters, and multiply-adds by window."""
    params, macs, keys = (one.widths[-1] + 1) * one.classes, one.widths[-1] * one.classes, 0
    previous = 3
    for stage, (width, ratio, depth) in enumerate(zip(one.widths, one.ratios, one.depths)):
        first, each = embedding(stage, previous, width), block(stage, width, ratio)
        params, macs = params + first[0] + depth * each[0], macs + first[1] + depth * each[1]
        keys += 0 if stage == 3 else 3 * depth * width * (STEM >> stage) ** 2  # multiply-adds per key of the window
        previous = width
    return params, [macs + keys * (window**2 - 9) for window in MACS_G]


def prints_the_figures(params: int, macs: list[int]) -> bool:
    return round(params / 1e6, 1) == PARAMS_M and [round(m / 1e9, 2) for m in macs] == list(MACS_G.values())


def check_formula() -> None:
    """Stop with a sentence if the formula disagrees with ``foveal.flops`` on ``transnext_pico``."""
    pico = Candidate((24, 48, 96, 192), USUAL_RATIOS[0], (2, 2, 6, 2), 1000)
    params, macs = count(pico)
    for window, found in zip(MACS_G, macs):
        with torch.device("meta"):
            counted = foveal.flops(timm.create_model("transnext_pico", device="meta", window_size=window), 224)
        if counted.macs != found or (window == 3 and counted.params != params):
            raise SystemExit(f"The formula of this script is not that of transnext_pico with windows of {window}.")
    print(f"transnext_pico: {show(params, macs)}")


def show(params: int, macs: list[int]) -> str:
    return f"{params / 1e6:.3f} M; " + ", ".join(f"{m / 1e9:.3f}" for m in macs) + " G"


def main() -> None:
    check_formula()
    tried, found = 0, 0
    for one in candidates():
        tried += 1
        params, macs = count(one)
        if not prints_the_figures(params, macs):
            continue
        found += 1
        if one.ratios in USUAL_RATIOS:
            print(*one, show(params, macs))
    print(f"{found} of {tried:,} networks print the figures of the paper.")


if __name__ == "__main__":
    main()
