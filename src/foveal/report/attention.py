"""The attention pictures of a report: small multiples with their words in HTML, so that a phone can read them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from torchvision.transforms.functional import normalize, to_tensor

from foveal.explain.attention import AttentionMaps, foveal_peripheral_attention
from foveal.explain.draw import HeadPanel, colour_scale, encode, head_panels, mark_query
from foveal.report.markup import Child, Html, el
from foveal.report.pieces import Picture
from foveal.tasks.classification.network import Classifier

MOST_HEADS = 8

EXPLANATION = (
    "A TransNeXt looks at an image in two ways at once. The fovea is a small window of fine keys that travels with the "
    "query; the periphery is the whole image, pooled to a coarse grid. One softmax weighs both, so sharp detail and "
    "rough outline compete for the same attention. The pictures take one query, the cyan dot, in the last block of the "
    "third stage, and colour every place by how similar its key is to that query.",
    "The foveal picture shows all fine keys, as figure 7 of the paper does; of these the query itself uses only those "
    "inside the cyan frame. Both pictures of a head share one colour scale, from its least to its most similar keys. "
    "The percentage is the part of the head's attention that stays inside the frame, position biases included.",
)


@dataclass(frozen=True)
class Attention:
    """One photograph (H, W, 3) uint8 with its maps; `note` says which net looked and what is to be seen."""

    name: str
    photo: np.ndarray
    maps: AttentionMaps
    note: str


def attention_of(network: Classifier, name: str, photo: np.ndarray, note: str = "") -> Attention:
    """The attention of the photograph's centre, at the photograph's own resolution, normalised as in training."""
    image = normalize(to_tensor(photo.copy()), network.fit.mean, network.fit.std)
    return Attention(name, photo, foveal_peripheral_attention(network.model, image), note)


def attention_pictures(pictures: Iterable[Attention]) -> Child:
    """The explanation, the colour scale, then every photograph with its heads."""
    scale = Picture(encode(colour_scale()), "Colour scale from dark (unlike the query) to light (similar to it)")
    legend = el("p", "unlike", scale.html(), "similar", class_="scale")
    return [el("p", text) for text in EXPLANATION], legend, [_photograph(picture) for picture in pictures]


def _photograph(picture: Attention) -> Child:
    maps = picture.maps
    marked = Picture(
        encode(mark_query(picture.photo, maps), "JPEG"), f"{picture.name}, the query marked", mime="image/jpeg"
    )
    grids = "foveal {} x {} keys, peripheral {} x {}".format(*maps.foveal.shape[1:], *maps.peripheral.shape[1:])
    first = el("figure", marked.html(), el("figcaption", f"The query and its window. Maps: {grids}."))
    panels = head_panels(picture.photo, maps)[:MOST_HEADS]
    heads = [_head(picture.name, number, panel) for number, panel in enumerate(panels, start=1)]
    return el("h3", picture.name), el("p", picture.note, class_="note"), el("div", first, heads, class_="attention")


def _head(name: str, number: int, panel: HeadPanel) -> Html:
    foveal, peripheral = (
        Picture(
            encode(pixels, "JPEG"), f"{name}, head {number}: similarity with the {kind} keys", mime="image/jpeg"
        ).html()
        for kind, pixels in (("fine", panel.foveal), ("pooled", panel.peripheral))
    )
    labels = (el("span", word, class_=colour) for word, colour in (("foveal", "fovea"), ("peripheral", "periphery")))
    caption = el("figcaption", f"Head {number}: {_percent(panel.foveal_share)} in the window")
    return el("figure", foveal, next(labels), peripheral, next(labels), caption, class_="head")


def _percent(share: float) -> str:
    return "under 1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"
