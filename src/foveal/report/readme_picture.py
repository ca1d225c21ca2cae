"""The first picture of the README, made by the project itself from a run of the quickstart:

foveal quickstart --out foveal-quickstart
python -m foveal.report.readme_picture foveal-quickstart/run/best.pt docs/attention.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from foveal.explain.draw import attention_figure
from foveal.report.attention import attention_of
from foveal.report.photograph import CREDITS, sample_photograph
from foveal.tasks.classification.network import restore

SIDE = 512  # pixels


def readme_picture(checkpoint: Path) -> bytes:
    """PNG of what the query in the centre of a flower finds similar to itself, on both paths and in all heads.

    Raises:
        FovealError: no usable checkpoint of a TransNeXt, or matplotlib or scikit-learn is missing.
    """
    network = restore(checkpoint)
    looked = attention_of(network, "A flower", sample_photograph("flower", SIDE))
    note = (
        f"Last block of stage 3 of {network.name}, trained by foveal quickstart on handwritten digits alone: a flower "
        "is new to it.\nSimilarity of the query with all fine keys (foveal) and all pooled keys (peripheral). "
        f"Photograph: {CREDITS['flower']}."
    )
    return attention_figure(looked.photo, looked.maps, "Foveal and peripheral attention of one query", note)


def main() -> None:
    """Read the command line and write the picture."""
    parser = argparse.ArgumentParser(description="Make the picture of the README from a checkpoint of the quickstart.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("picture", type=Path, help="PNG file to write")
    words = parser.parse_args()
    words.picture.write_bytes(readme_picture(words.checkpoint))


if __name__ == "__main__":
    main()
