"""Draw the first picture of the README, ``docs/attention.png``, from a run of the quickstart:

foveal quickstart --out foveal-quickstart
python docs/attention_picture.py foveal-quickstart/run/best.pt docs/attention.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from foveal.explain.figures.attention import attention_figure
from foveal.report.page_attention import CREDITS, attention_of, sample_photograph
from foveal.tasks.classification.network import restore

SIDE = 512  # pixels


def attention_picture(checkpoint: Path) -> bytes:
    """Return a PNG of the attention of one query in the centre of a flower, on both paths and in all heads.

    Raises:
        FovealError: no usable checkpoint of a TransNeXt, or matplotlib or scikit-learn is missing.
    """
    network = restore(checkpoint)
    flower = attention_of(network, "A flower", sample_photograph("flower", SIDE))
    note = (
        f"Last block of stage 3 of {network.name}, trained by foveal quickstart on handwritten digits alone: a flower "
        "is new to it.\nSimilarity of the query with all fine keys (foveal) and all pooled keys (peripheral). "
        f"Photograph: {CREDITS['flower']}."
    )
    return attention_figure(flower.photo, flower.maps, "Foveal and peripheral attention of one query", note)


def main() -> None:
    """Parse the command line and write the picture."""
    parser = argparse.ArgumentParser(description="Draw the README's picture from a checkpoint of the quickstart.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("picture", type=Path, help="PNG file to write")
    options = parser.parse_args()
    options.picture.write_bytes(attention_picture(options.checkpoint))


if __name__ == "__main__":
    main()
