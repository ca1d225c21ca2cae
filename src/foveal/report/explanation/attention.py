"""Where one query of a photograph attends, and how a whole network attends by depth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foveal.errors import FovealError
from foveal.explain import (
    AttentionMaps,
    BlockProfile,
    BranchEnergy,
    DynamicKernels,
    ReducedAttention,
    depth_profile,
    mixed_weights,
    watch_attention,
    watch_mixers,
)
from foveal.explain.figures.attention_depth import depth_figure
from foveal.explain.figures.attention_of_query import query_figure
from foveal.explain.figures.dynamic_mixer import energy_figure, kernels_figure, reduced_attention_figure
from foveal.explain.figures.similarity import similarity_figure
from foveal.models.transnext import TransNeXt
from foveal.models.transxnet import TransXNet
from foveal.report.explanation.picture import Picture
from foveal.report.explanation.subject import Photograph, Subject
from foveal.wording import TIMES

MOST_HEADS = 8  # in a figure; the numbers have all
PROFILE_GRID = 16  # queries per side of a map, of which a profile by depth is the mean


@dataclass(frozen=True)
class Place:
    """A block and a query in it.

    Attributes:
        stage, block: counted from 0, negative ones from the end.
        query: (row, column) in pixels of the image that the network sees; None takes the centre.
    """

    stage: int
    block: int = -1
    query: tuple[int, int] | None = None


def attention_pictures(subject: Subject, photo: Photograph, place: Place) -> Iterator[Picture]:
    """Yield the attention of one query; for a TransNeXt also how attention changes with depth.

    Raises:
        FovealError: the network is of neither family, or has no such block or query.
    """
    if isinstance(subject.body, TransXNet):
        mixers = watch_mixers(subject.body, photo.tensor, [_from_zero(subject, place.stage)])
        yield reduced_picture(subject, photo, mixers.attention(place.stage, place.block, _token(mixers, place)))
        return
    if not isinstance(subject.body, TransNeXt):
        raise FovealError(
            f"Only TransNeXt and TransXNet have this attention, and {subject.name} is neither: leave attention out."
        )
    watched = watch_attention(subject.body, photo.tensor)
    maps = watched.of(place.stage, place.block, _token(watched, place))
    yield query_picture(subject, photo, maps)
    yield similarity_picture(subject, photo, maps)
    yield depth_picture(subject, photo, depth_profile(watched, PROFILE_GRID))


def query_picture(subject: Subject, photo: Photograph, maps: AttentionMaps, heads: Sequence[int] = ()) -> Picture:
    """Return the attention of one query of a TransNeXt; of all heads, the first eight, or some in the figure."""
    where = f"Stage {maps.stage + 1}, block {maps.block + 1}"
    return Picture(
        f"{photo.name}-attention",
        query_figure(
            photo.pixels, maps, f"Attention of one query: {where.lower()}",
            f"{where} of {subject.caption}. Foveal: weights of the window's keys; peripheral: of pooled keys, on the "
            "tokens of their cells; both of one softmax. Mixed: their sum. Positional: what the relative position adds "
            f"to the window's weights after the softmax.{photo.credited}",
            heads=_drawn(heads, maps.heads), positional=True,
        ),
        {
            "window_weights": maps.window_weights, "pooled_weights": maps.pooled_weights,
            "positional": maps.positional, "mixed_weights": mixed_weights(maps),
        },
        {
            "stage": maps.stage + 1, "block": maps.block + 1, "query": list(maps.query),
            "foveal_share": _rounded(maps.foveal_share),
        },
    )  # fmt: skip


def similarity_picture(subject: Subject, photo: Photograph, maps: AttentionMaps, heads: Sequence[int] = ()) -> Picture:
    """Return how similar one query of a TransNeXt is to all fine and all pooled keys, as in figure 7 of the paper."""
    where = f"Stage {maps.stage + 1}, block {maps.block + 1}"
    return Picture(
        f"{photo.name}-similarity",
        similarity_figure(
            photo.pixels, maps, f"Similarity with one query: {where.lower()}",
            f"{where} of {subject.caption}. Foveal: all fine keys, of which the query attends to those of the window; "
            f"peripheral: all pooled keys.{photo.credited}",
            heads=_drawn(heads, maps.heads),
        ),
        {"foveal_similarity": maps.foveal, "peripheral_similarity": maps.peripheral},
        {"stage": maps.stage + 1, "block": maps.block + 1, "query": list(maps.query)},
    )  # fmt: skip


def depth_picture(subject: Subject, photo: Photograph, profile: Sequence[BlockProfile]) -> Picture:
    """Return how the attention of a TransNeXt changes with depth."""
    return Picture(
        f"{photo.name}-depth",
        depth_figure(
            profile, "Attention by depth", f"{subject.caption}, on {photo.name}: mean over up to {PROFILE_GRID}{TIMES}"
            f"{PROFILE_GRID} queries of each block.",
        ),
        {
            f"{name}_{block.stage + 1}_{block.block + 1}": getattr(block, name)
            for block in profile for name in ("foveal_share", "entropy", "relative_entropy", "distance")
        },
        {
            "blocks": [
                {
                    "stage": block.stage + 1, "block": block.block + 1,
                    "foveal_share": round(float(block.foveal_share.mean()), 4),
                    "relative_entropy": round(float(block.relative_entropy.mean()), 4),
                    "distance": round(float(block.distance.mean()), 2),
                }
                for block in profile
            ]
        },
    )  # fmt: skip


def branch_pictures(subject: Subject, photo: Photograph, place: Place) -> Iterator[Picture]:
    """Yield the dynamic kernels of a TransXNet's block, and the energies of its branches, for a photograph.

    Raises:
        FovealError: the network is no TransXNet, or has no such block.
    """
    if not isinstance(subject.body, TransXNet):
        raise FovealError(f"Only TransXNet has two branches, and {subject.name} is none: leave branches out.")
    mixers = watch_mixers(subject.body, photo.tensor, [_from_zero(subject, place.stage)])
    yield kernels_picture(subject, photo, mixers.kernels(place.stage, place.block))
    yield energy_picture(subject, photo, mixers.energies(place.stage, place.block))


def kernels_picture(subject: Subject, photo: Photograph, kernels: DynamicKernels) -> Picture:
    """Return the dynamic kernels of a TransXNet's block for a photograph."""
    where = f"Stage {kernels.stage + 1}, block {kernels.block + 1} of {subject.caption}, on {photo.name}"
    return Picture(
        f"{photo.name}-kernels",
        kernels_figure(kernels, "Dynamic kernels of IDConv", f"{where}."),
        {
            "kernels": kernels.kernels, "biases": kernels.biases, "group_weights": kernels.group_weights,
            "bias_weights": kernels.bias_weights,
        },
        {"stage": kernels.stage + 1, "block": kernels.block + 1},
    )  # fmt: skip


def energy_picture(subject: Subject, photo: Photograph, energy: BranchEnergy) -> Picture:
    """Return how strongly the branches of a TransXNet's block answer on a photograph."""
    where = f"Stage {energy.stage + 1}, block {energy.block + 1} of {subject.caption}, on {photo.name}"
    caption = f"{where}: mean square over channels.{photo.credited}"
    arrays = {"local": energy.local, "distant": energy.distant, "enhanced": energy.enhanced}
    return Picture(
        f"{photo.name}-branches",
        energy_figure(photo.pixels, energy, "Branches of the D-Mixer", caption),
        arrays,
        {
            "stage": energy.stage + 1, "block": energy.block + 1,
            **{name: round(float(values.mean()), 6) for name, values in arrays.items()},
        },
    )  # fmt: skip


def reduced_picture(subject: Subject, photo: Photograph, maps: ReducedAttention, heads: Sequence[int] = ()) -> Picture:
    """Return the attention of one query of a TransXNet; of all heads, the first eight, or some in the figure."""
    where = f"Stage {maps.stage + 1}, block {maps.block + 1}"
    return Picture(
        f"{photo.name}-attention",
        reduced_attention_figure(
            photo.pixels, maps, f"Attention of one query: {where.lower()}",
            f"{where} of {subject.caption}: softmax weights of the reduced map's keys (OSRA).{photo.credited}",
            heads=_drawn(heads, len(maps.weights)),
        ),
        {"weights": maps.weights, "position": maps.position},
        {"stage": maps.stage + 1, "block": maps.block + 1, "query": list(maps.query)},
    )  # fmt: skip


def _drawn(heads: Sequence[int], count: int) -> list[int]:
    return list(heads) or list(range(min(count, MOST_HEADS)))


def _token(watched: Any, place: Place) -> tuple[int, int] | None:
    if place.query is None:
        return None
    height, width = watched.image_size
    row, column = place.query
    if not (0 <= row < height and 0 <= column < width):
        raise FovealError(
            f"The query ({row}, {column}) lies outside the image of {height} x {width} pixels that the network sees: "
            "pass --query ROW COLUMN inside it."
        )
    token: tuple[int, int] = watched.query_at(place.stage, place.query)
    return token


def _from_zero(subject: Subject, stage: int) -> int:
    stages: Any = subject.body.stages
    return stage % len(stages) if -len(stages) <= stage < len(stages) else stage


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in values]
