"""What the page shows of one network on one image, as plain types and arrays. Stages, blocks and heads are counted from
0; shares and weights are between 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from foveal.app.seen import Seen
from foveal.errors import FovealError
from foveal.explain import (
    AttentionMaps,
    BranchEnergy,
    DynamicKernels,
    ReducedAttention,
    WatchedAttention,
    WatchedMixers,
    WatchedScores,
    area_ratios,
    box_score,
    class_score,
    region_score,
)
from foveal.explain.cam import Method, Score
from foveal.explain.field_measures import THRESHOLDS
from foveal.explain.token_grid import mixed_weights, peripheral_weights, token_edges
from foveal.report.draw_legend import class_colours
from foveal.report.explanation.activation import heat_on_photograph
from foveal.tasks.detection.predict import detected_objects
from foveal.tasks.segmentation.predict import class_shares

TOP_CLASSES = 10
MOST_BOXES = 20
LOWEST_SCORE = 0.3  # of boxes that are shown
KERNELS = 12  # of a branch that are shown: those with the largest weights


@dataclass(frozen=True)
class Place:
    """A point and where to look at it.

    Attributes:
        point: (row, column) in pixels of the opened image; None takes the centre of what the network is shown.
        stage: of the network.
        block: of the stage; negative ones count from the end, and too large ones mean the last.
        heads: whose mean is shown; none of them means all. Those that the block does not have are left out.
    """

    point: tuple[float, float] | None = None
    stage: int = 2
    block: int = -1
    heads: tuple[int, ...] = ()

    def within(self, seen: Seen) -> Place:
        """Return the place with a block that the stage has."""
        blocks = sum(stage == self.stage for stage, _ in seen.watched.blocks)
        return Place(self.point, self.stage, min(self.block, blocks - 1) if blocks else self.block, self.heads)

    def token(self, seen: Seen) -> tuple[int, int] | None:
        """Return (row, column) of the token of the stage nearest to the point."""
        if self.point is None:
            return None
        view, (height, width) = seen.view, seen.watched.image_size
        row = (self.point[0] - view.top) * height / view.height
        column = (self.point[1] - view.left) * width / view.width
        # The nearest whole pixel below: token i stands for the pixels from its edge i on.
        pixel = tuple(
            int(np.clip(np.floor(at), 0, side - 1)) for at, side in zip((row, column), (height, width), strict=True)
        )
        found: tuple[int, int] = seen.watched.query_at(self.stage, cast(tuple[int, int], pixel))
        return found


def attention_maps(seen: Seen, place: Place) -> AttentionMaps | ReducedAttention:
    """Return the attention of a point, with all heads: of a TransNeXt on both paths, of a TransXNet that of OSRA."""
    place, token = place.within(seen), place.token(seen)
    with seen.asking() as watched:
        if isinstance(watched, WatchedAttention):
            return watched.of(place.stage, place.block, token)
        return watched.attention(place.stage, place.block, token)


def attention(seen: Seen, place: Place) -> dict[str, Any]:
    """Return the attention of a point, the mean over the chosen heads.

    Returns:
        ``stage``, ``block``, ``token`` (row, column), ``size`` of the token map, ``heads`` (their number), ``chosen``,
        ``stride`` and ``image_size`` in pixels of the network's image, ``view`` (top, left, height, width) in pixels of
        the opened one, ``query_edges`` of the tokens on the image, and ``maps``: by name, weights with the ``rows`` and
        ``columns`` where their cells begin and end on the network's image. For a TransNeXt also ``window`` (k, k) with
        ``inside`` (k, k) of 0 and 1, ``share`` in the window, and ``shares`` of each head.
    """
    maps = attention_maps(seen, place)
    heads = maps.heads if isinstance(maps, AttentionMaps) else len(maps.weights)
    chosen = _chosen(place.heads, heads)
    size = maps.size if isinstance(maps, AttentionMaps) else _query_map(maps)
    shown = _two_paths(maps, chosen) if isinstance(maps, AttentionMaps) else _one_path(maps, chosen)
    rows, columns = _edges(size, maps.stride, maps.image_size)
    return {
        "stage": maps.stage,
        "block": maps.block,
        "token": list(maps.query),
        "size": list(size),
        "heads": heads,
        "chosen": chosen,
        "stride": maps.stride,
        "image_size": list(maps.image_size),
        "view": list(seen.view),
        "query_edges": {"rows": rows, "columns": columns},
        **shown,
    }


def depth(seen: Seen) -> dict[str, Any]:
    """Return the mean share of the window and mean distance in pixels, block by block, of a TransNeXt."""
    return {
        "blocks": [
            {
                "stage": block.stage,
                "block": block.block,
                "window": block.window,
                "share": float(block.foveal_share.mean()),
                "heads": block.foveal_share.tolist(),
                "distance": float(block.distance.mean()),
                "entropy": float(block.relative_entropy.mean()),
            }
            for block in seen.profile
        ]
    }


def branches(seen: Seen, place: Place) -> dict[str, Any]:
    """Return what a TransXNet's mixer does with the image: the strongest kernels, group weights, and energies.

    Returns:
        ``channels`` (n,), ``kernels`` (n, k, k), ``groups``: the mean weight of each learned kernel, and ``maps``: the
        mean square of each branch by position, as in ``attention``.
    """
    kernels, energy = kernels_of(seen, place), energies_of(seen, place)
    strongest = np.argsort(-np.square(kernels.kernels).sum((1, 2)), kind="stable")[:KERNELS]
    maps = {"IDConv": energy.local, "OSRA": energy.distant, "STE": energy.enhanced}
    return {
        "stage": kernels.stage,
        "block": kernels.block,
        "channels": strongest.tolist(),
        "kernels": kernels.kernels[strongest],
        "groups": kernels.group_weights.mean((1, 2, 3)).tolist(),
        "maps": {name: _on_grid(values, energy.stride, energy.image_size) for name, values in maps.items()},
    }


def kernels_of(seen: Seen, place: Place) -> DynamicKernels:
    """Return the kernels of a TransXNet's mixer; raise FovealError for other networks."""
    place = place.within(seen)
    with seen.asking() as watched:
        return _mixers(seen, watched).kernels(place.stage, place.block)


def energies_of(seen: Seen, place: Place) -> BranchEnergy:
    """Return how strongly the branches of a TransXNet's mixer answer; raise FovealError for other networks."""
    place = place.within(seen)
    with seen.asking() as watched:
        return _mixers(seen, watched).energies(place.stage, place.block)


def _mixers(seen: Seen, watched: WatchedAttention | WatchedMixers) -> WatchedMixers:
    if not isinstance(watched, WatchedMixers):
        raise FovealError(f"{seen.network.subject.name} has no branches: choose a TransXNet.")
    return watched


def answers(seen: Seen) -> dict[str, Any]:
    """Return what the network says: top classes, boxes of at least 0.3, or the classes of pixels, best first.

    Returns:
        ``kind``, and ``items``, each with ``index`` (as ``evidence`` takes it), ``name`` and ``value``: a probability,
        a score, or a share of the area. Boxes have ``box`` (x1, y1, x2, y2) in pixels of the picture "answered", and
        classes of pixels ``colour`` (red, green, blue).
    """
    subject, outputs = seen.network.subject, seen.answer()
    items: list[dict[str, Any]]
    if subject.kind == "classification":
        best = subject.probabilities(outputs.detach()[0]).topk(min(TOP_CLASSES, len(subject.classes)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        items = [{"index": index, "name": subject.classes[index], "value": value} for index, value in pairs]
    elif subject.kind == "detection":
        found = {name: outputs[0][name].detach().cpu() for name in ("boxes", "labels", "scores")}
        objects = detected_objects(found, subject.classes, LOWEST_SCORE)[:MOST_BOXES]
        order = found["scores"].argsort(descending=True, stable=True).tolist()
        items = [
            {"index": order[at], "name": one.name, "value": one.score, "box": list(one.box)}
            for at, one in enumerate(objects)
        ]
    else:
        colours = class_colours(subject.classes)
        items = [
            {"index": one.label, "name": one.name, "value": float(one.share), "colour": colours[one.label].tolist()}
            for one in class_shares(label_map(seen), subject.classes)
        ]
    return {"kind": subject.kind, "items": items, "classes": len(subject.classes)}


def label_map(seen: Seen) -> np.ndarray:
    """Return the class of each pixel of the picture "answered", (H, W) int64, of a segmenter."""
    outputs: torch.Tensor = seen.answer()
    return cast(np.ndarray, outputs.detach()[0].argmax(0).cpu().numpy())


def evidence(seen: Seen, index: int, stage: int = -1, method: Method = "grad") -> np.ndarray:
    """Return the evidence for a class, box or class of pixels at each pixel of the picture "answered", (H, W) float32.

    Args:
        seen: of the network.
        index: of ``answers``.
        stage: whose map is shown; negative ones count from the end.
        method: "grad" for Grad-CAM, "hires" for HiRes-CAM.
    """
    subject, photo = seen.network.subject, seen.answered
    scores: WatchedScores = seen.scores(stage)
    of_kind: Any = {"classification": class_score, "detection": box_score, "segmentation": region_score}[subject.kind]
    score: Score = of_kind(index)
    height = photo.tensor.shape[1]
    if subject.kind == "detection":
        with seen.network.lock:
            height = cast(Any, subject.model).images([photo.tensor])[0].image_sizes[0][0]
    return heat_on_photograph(scores, score, method, photo, height, subject)


def field_shown(name: str, contributions: np.ndarray) -> dict[str, Any]:
    """Return one receptive field and the share of the image's area that holds 20, 30, 50 and 99 % of it."""
    ratios = area_ratios(contributions).tolist()
    return {"layer": name, "field": contributions, "ratios": dict(zip(map(str, THRESHOLDS), ratios, strict=True))}


def _two_paths(maps: AttentionMaps, chosen: list[int]) -> dict[str, Any]:
    window = maps.window_weights[chosen].mean(0)
    shown = {"mixed": mixed_weights(maps)} | ({"peripheral": peripheral_weights(maps)} if maps.window else {})
    return {
        "maps": {name: _on_grid(w[chosen].mean(0), maps.stride, maps.image_size) for name, w in shown.items()},
        "window": window,
        "inside": _inside(maps).tolist(),
        "share": float(window.sum()),
        "shares": maps.foveal_share.tolist(),
        "pooled_size": list(maps.pooled_weights.shape[1:]),
    }


def _one_path(maps: ReducedAttention, chosen: list[int]) -> dict[str, Any]:
    weights = maps.weights[chosen].mean(0)
    return {
        "maps": {"attention": _on_grid(weights, maps.stride * maps.reduction, maps.image_size)},
        "pooled_size": list(weights.shape),
    }


def _query_map(maps: ReducedAttention) -> tuple[int, int]:
    """Return the size of the map that queries are on."""
    height, width = (-(-side // maps.stride) for side in maps.image_size)
    return height, width


def _inside(maps: AttentionMaps) -> np.ndarray:
    """(k, k) bool: which keys of the window lie on the map."""
    half = maps.window // 2
    rows, columns = (
        (at - half + np.arange(maps.window) >= 0) & (at - half + np.arange(maps.window) < size)
        for at, size in zip(maps.query, maps.size, strict=True)
    )
    return rows[:, None] & columns


def _on_grid(values: np.ndarray, stride: int, image_size: tuple[int, int]) -> dict[str, Any]:
    rows, columns = _edges((values.shape[0], values.shape[1]), stride, image_size)
    return {"values": values.astype(np.float32), "rows": rows, "columns": columns}


def _edges(size: tuple[int, int], stride: int, image_size: tuple[int, int]) -> tuple[list[int], list[int]]:
    rows, columns = (token_edges(n, stride, pixels).tolist() for n, pixels in zip(size, image_size, strict=True))
    return rows, columns


def _chosen(heads: Sequence[int], count: int) -> list[int]:
    return [head for head in dict.fromkeys(heads) if 0 <= head < count] or list(range(count))
