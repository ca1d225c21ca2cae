"""Pictures and numbers of what the page shows, as files: the figures of ``foveal explain``."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from PIL import Image

from foveal.app.look import Place, answers, attention_maps, energies_of, evidence, kernels_of, label_map
from foveal.app.seen import Seen
from foveal.errors import FovealError
from foveal.explain import AttentionMaps
from foveal.explain.cam import Method
from foveal.explain.figures.activation_map import Evidence
from foveal.report.draw_label_map import draw_label_map
from foveal.report.explanation.activation import evidence_picture
from foveal.report.explanation.attention import (
    depth_picture,
    energy_picture,
    kernels_picture,
    query_picture,
    reduced_picture,
)
from foveal.report.explanation.field import field_picture
from foveal.report.explanation.picture import Form, Picture

SHOWN = 1024  # pixels: the longer side of pictures in the page
MEDIA = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf", "npz": "application/octet-stream"}


@dataclass(frozen=True)
class Wanted:
    """What to download.

    Attributes:
        what: a name of ``PICTURES``.
        form: "png", "svg" or "pdf" for the picture, "npz" for its numbers.
        place: the point, block and heads.
        index, stage, method: of evidence, as in ``look.evidence``.
    """

    what: str
    form: Form | Literal["npz"] = "png"
    place: Place = field(default_factory=Place)
    index: int = 0
    stage: int = -1
    method: Method = "grad"


def download(seen: Seen, wanted: Wanted) -> tuple[str, bytes]:
    """Return the name of a file and its content.

    Raises:
        FovealError: there is no such picture or form, or matplotlib is not installed.
    """
    if wanted.what not in PICTURES:
        raise FovealError(f"There is no picture {wanted.what!r}: choose one of {', '.join(PICTURES)}.")
    if wanted.form not in MEDIA:
        raise FovealError(f"There is no format {wanted.form!r}: choose one of {', '.join(MEDIA)}.")
    picture = PICTURES[wanted.what](seen, wanted)
    return f"{picture.name}.{wanted.form}", picture.content(wanted.form)


def shown(seen: Seen, what: str) -> tuple[bytes, tuple[int, int]]:
    """Return a picture of the page as PNG, at most 1024 pixels wide and high, and its (height, width) before.

    Args:
        seen: of the network.
        what: "photo" (as the backbone sees it), "answered" (what the answer is about) or "labels" (a segmenter's map).
    """
    if what == "labels":
        if seen.network.subject.kind != "segmentation":
            raise FovealError(f"{seen.network.subject.name} gives no label map: choose a segmenter.")
        photo = seen.answered.pixels
        pixels = draw_label_map(photo, label_map(seen), seen.network.subject.classes, max(photo.shape[:2]))
    elif what in ("photo", "answered"):
        pixels = (seen.photo if what == "photo" else seen.answered).pixels
    else:
        raise FovealError(f"There is no picture {what!r}: choose photo, answered or labels.")
    image, file = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((SHOWN, SHOWN), Image.Resampling.BICUBIC)
    image.save(file, "PNG", compress_level=1)
    return file.getvalue(), (pixels.shape[0], pixels.shape[1])


def reduced_heat(heat: np.ndarray) -> np.ndarray:
    """Return heat at each pixel of a picture as ``shown`` returns it, (h, w) float32."""
    height, width = heat.shape
    factor = min(SHOWN / max(height, width), 1)
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    return heat if factor == 1 else np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BILINEAR))


def _attention(seen: Seen, wanted: Wanted) -> Picture:
    maps = attention_maps(seen, wanted.place)
    subject, photo, count = seen.network.subject, seen.photo, _heads(maps)
    heads = [head for head in wanted.place.heads if 0 <= head < count]
    if isinstance(maps, AttentionMaps):
        return query_picture(subject, photo, maps, heads)
    return reduced_picture(subject, photo, maps, heads)


def _heads(maps: object) -> int:
    return maps.heads if isinstance(maps, AttentionMaps) else len(maps.weights)  # type: ignore[attr-defined]


def _depth(seen: Seen, _: Wanted) -> Picture:
    return depth_picture(seen.network.subject, seen.photo, seen.profile)


def _kernels(seen: Seen, wanted: Wanted) -> Picture:
    return kernels_picture(seen.network.subject, seen.photo, kernels_of(seen, wanted.place))


def _branches(seen: Seen, wanted: Wanted) -> Picture:
    return energy_picture(seen.network.subject, seen.photo, energies_of(seen, wanted.place))


def _evidence(seen: Seen, wanted: Wanted) -> Picture:
    heat = evidence(seen, wanted.index, wanted.stage, wanted.method)
    subject = seen.network.subject
    item = next((one for one in answers(seen)["items"] if one["index"] == wanted.index), None)
    name = subject.classes[wanted.index] if item is None else f"{item['name']}, {100 * item['value']:.1f} %"
    shown = Evidence(heat, name, None if item is None or "box" not in item else tuple(item["box"]))
    where = "the last stage" if wanted.stage == -1 else f"stage {wanted.stage + 1}"
    return evidence_picture(subject, seen.answered, [shown], [], wanted.method, where)


def _fields(seen: Seen, _: Wanted) -> Picture:
    return field_picture(f"{seen.name}-erf", [(seen.network.subject, seen.all_fields())])


PICTURES: dict[str, Callable[[Seen, Wanted], Picture]] = {
    "attention": _attention,
    "depth": _depth,
    "kernels": _kernels,
    "branches": _branches,
    "evidence": _evidence,
    "erf": _fields,
}
