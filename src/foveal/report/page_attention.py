"""Attention pictures as a section of a page, and the sample photographs that they are taken of.

The pictures are small multiples whose words are HTML, so that they can be read on a phone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image
from torchvision.transforms.functional import normalize, to_tensor

from foveal.errors import FovealError
from foveal.explain import AttentionMaps, most_balanced, watch_attention
from foveal.explain.figures.head_panels import HeadPanel, colour_scale, encode, head_panels, marked_photograph
from foveal.report.page import Child, Html, Picture, el
from foveal.tasks.classification.network import Classifier
from foveal.wording import TIMES

MOST_HEADS = 8
STAGE = 2  # from 0: the deepest one that has both paths in every variant
COLOURS = {"foveal": "fovea", "peripheral": "periphery"}  # classes of the page's style
CREDITS = {
    "flower": "flickr.com/photos/vultilion, CC BY 2.0, from scikit-learn",
    "china": "flickr.com/photos/danielbuechele, CC BY 2.0, from scikit-learn",
}

EXPLANATION = (
    "A TransNeXt looks at an image in two ways at once. The fovea is a small window of fine keys that moves with the "
    "query; the periphery is the whole image, pooled to a coarse grid. One softmax weighs both, so fine detail and "
    "coarse outline compete for the same attention. The pictures show one query, the white dot, in the third stage. It "
    "is chosen so that both paths have something to show: of a grid of queries in each block, the one whose most "
    "one-sided head is the least one-sided. The colour at each position shows how similar its key is to that query.",
    "The foveal picture shows all fine keys, as figure 7 of the paper does; the query itself attends only to those "
    "inside the white frame. Both pictures of a head share one colour scale, from the least to the most similar key. "
    "The percentage is the share of the head's attention inside the frame, position biases included.",
)


@dataclass(frozen=True)
class Attention:
    """A photograph, (H, W, 3) uint8, with its attention maps; ``note`` names the network and what to look for."""

    name: str
    photo: np.ndarray
    maps: AttentionMaps
    note: str

    @property
    def balance(self) -> float:
        """The share of attention of the smaller path, in the head where it is smallest."""
        share = self.maps.foveal_share
        return float(np.minimum(share, 1 - share).min())


def attention_of(network: Classifier, name: str, photo: np.ndarray, note: str = "") -> Attention:
    """Compute the attention of the photograph's most balanced query in the third stage (see ``most_balanced``), at full
    resolution, normalised as in training."""
    image = normalize(to_tensor(photo.copy()), network.fit.mean, network.fit.std)
    watched = watch_attention(network.model, image, [STAGE])
    best = most_balanced(watched)
    return Attention(name, photo, watched.of(best.stage, best.block, best.query), note)


def sample_photograph(name: Literal["flower", "china"], side: int = 512) -> np.ndarray:
    """Return the centre square of one of scikit-learn's sample photographs, resized: (side, side, 3) uint8.

    They are installed with scikit-learn and need no download. Both are published under CC BY 2.0: name their authors
    (``CREDITS``) when you show them.

    Raises:
        FovealError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_sample_image
    except ModuleNotFoundError as missing:
        raise FovealError(
            "The photograph comes with scikit-learn: install it with `pip install 'foveal[train]'`."
        ) from missing
    photo = load_sample_image(f"{name}.jpg")
    height, width = photo.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = Image.fromarray(photo[top : top + short, left : left + short])
    return np.asarray(square.resize((side, side), Image.Resampling.BICUBIC))


def attention_pictures(pictures: Iterable[Attention]) -> Child:
    """Return the explanation, the colour scale, then every photograph with its heads."""
    scale = Picture(encode(colour_scale()), "Colour scale from dark (dissimilar to the query) to light (similar)")
    legend = el("p", "dissimilar", scale.html(), "similar", class_="scale")
    return [el("p", text) for text in EXPLANATION], legend, [_photograph(picture) for picture in pictures]


def _photograph(picture: Attention) -> Child:
    maps = picture.maps
    marked = Picture(
        encode(marked_photograph(picture.photo, maps), "JPEG"),
        f"{picture.name}, with the query marked",
        mime="image/jpeg",
    )
    (rows, columns), (pooled_rows, pooled_columns) = maps.foveal.shape[1:], maps.peripheral.shape[1:]
    grids = f"foveal {rows}{TIMES}{columns} keys, peripheral {pooled_rows}{TIMES}{pooled_columns}"
    where = f"Stage {maps.stage + 1}, block {maps.block + 1}"
    first = el("figure", marked.html(), el("figcaption", f"{where}: the query and its window. Maps: {grids}."))
    panels = head_panels(picture.photo, maps)[:MOST_HEADS]
    heads = [_head(picture.name, number, panel) for number, panel in enumerate(panels, start=1)]
    return el("h3", picture.name), el("p", picture.note, class_="note"), el("div", first, heads, class_="attention")


def _head(name: str, number: int, panel: HeadPanel) -> Html:
    shown = [
        (Picture(encode(pixels, "JPEG"), f"{name}, head {number}: {path} similarity", mime="image/jpeg").html(),
         el("span", path, class_=COLOURS.get(path)))
        for path, pixels in panel.paths.items()
    ]  # fmt: skip
    caption = el("figcaption", f"Head {number}: {_percent(panel.foveal_share)} in the window")
    return el("figure", shown, caption, class_="head")


def _percent(share: float) -> str:
    return "under 1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"
