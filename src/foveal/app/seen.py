"""What one network saw of one image: run when it is first asked for, then kept, so that a click runs no network."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from foveal.app.networks import Network
from foveal.errors import FovealError
from foveal.explain import (
    BlockProfile,
    EffectiveReceptiveField,
    ReceptiveFields,
    WatchedAttention,
    WatchedMixers,
    WatchedScores,
    depth_profile,
    watch_attention,
    watch_mixers,
    watch_scores,
)
from foveal.explain.layers import Layer, stage_layer, stage_layers
from foveal.models.pyramid import Pyramid
from foveal.report.explanation.attention import PROFILE_GRID
from foveal.report.explanation.subject import Photograph
from foveal.tasks.classification.preprocessing import Preprocessing
from foveal.types import Size


class View(NamedTuple):
    """The rectangle of an image that a network is shown, in the image's pixels."""

    top: float
    left: float
    height: float
    width: float


class Seen:
    """One network on one image. The caller holds the session's lock, so only one thread is inside.

    Attributes:
        network: the network.
        name: of the image.
        image: RGB, upright.
        credit: its author and licence, for captions.
    """

    def __init__(self, network: Network, name: str, image: Image.Image, credit: str = ""):
        self.network, self.name, self.image, self.credit = network, name, image, credit
        self._scores: tuple[int, WatchedScores] | None = None
        self._fields: ReceptiveFields | None = None

    @cached_property
    def photo(self) -> Photograph:
        """The image as the backbone is shown it."""
        return replace(self.network.subject.photograph(self.image, self.name), credit=self.credit)

    @cached_property
    def answered(self) -> Photograph:
        """The image that answers are about: whole for a detector or segmenter, otherwise ``photo``."""
        subject = self.network.subject
        if subject.kind == "classification":
            return self.photo
        return replace(subject.whole(self.image, self.name), credit=self.credit)

    @cached_property
    def view(self) -> View:
        """What part of the image ``photo`` is."""
        return view_of(self.network.subject.fit, (self.image.height, self.image.width))

    @cached_property
    def watched(self) -> WatchedAttention | WatchedMixers:
        """The attention layers of a TransNeXt or the token mixers of a TransXNet; FovealError for other networks."""
        network = self.network
        if network.family == "other":
            raise FovealError(f"{network.subject.name} has no such attention: see its classes and receptive field.")
        watch: Any = watch_attention if network.family == "transnext" else watch_mixers
        with network.lock:
            watched: WatchedAttention | WatchedMixers = watch(network.subject.body, self.photo.tensor)
        return watched

    @contextmanager
    def asking(self) -> Iterator[WatchedAttention | WatchedMixers]:
        """Give ``watched`` for questions. They call modules of the network, so its lock is held."""
        watched = self.watched
        with self.network.lock:
            yield watched

    @cached_property
    def profile(self) -> tuple[BlockProfile, ...]:
        """How attention changes with depth; of a TransNeXt."""
        with self.asking() as watched:
            if not isinstance(watched, WatchedAttention):
                raise FovealError(f"{self.network.subject.name} has no foveal attention: choose a TransNeXt.")
            return depth_profile(watched, PROFILE_GRID)

    def scores(self, stage: int = -1) -> WatchedScores:
        """Return the network's answer, with its derivatives from a stage on; those of the last stage asked for are
        kept."""
        if self._scores is None or self._scores[0] != stage:
            subject, weight = self.network.subject, next(self.network.subject.model.parameters())
            tensor = self.answered.tensor.to(weight.device, weight.dtype)
            inputs = [tensor] if subject.kind == "detection" else tensor[None]
            with self.network.lock:
                self._scores = stage, watch_scores(subject.model, inputs, stage_layer(subject.body, stage))
        return self._scores[1]

    def answer(self) -> Any:
        """Return the network's answer, whatever stage its derivatives are kept from."""
        return (self.scores() if self._scores is None else self._scores[1]).outputs

    def fields(self) -> Generator[tuple[str, np.ndarray, int, int], None, None]:
        """Yield the effective receptive field of each stage on this image: (name, (H, W) float32, done, total).

        Of our networks one stage is computed at a time, so that a page can show how far it is. All are kept when the
        last is done.
        """
        body = self.network.subject.body
        layers: list[Mapping[str, Layer] | None] = [None]
        if isinstance(body, Pyramid):
            layers = [{name: layer} for name, layer in stage_layers(body).items()]
        kept, found = self._fields, list[ReceptiveFields]()
        for place in layers if kept is None else ():
            field = EffectiveReceptiveField(body, place)
            with self.network.lock:
                field.add(self.photo.tensor[None])
            found.append(field.result())
            if place is not None:
                yield found[-1].layers[0], found[-1].contributions[0], len(found), len(layers)
        self._fields = kept = kept or _joined(found)
        if len(layers) == 1 or not found:
            total = len(kept.layers)
            for done, (name, contributions) in enumerate(zip(kept.layers, kept.contributions, strict=True), start=1):
                yield name, contributions, done, total

    def all_fields(self) -> ReceptiveFields:
        """Return the receptive fields of all stages on this image."""
        for _ in self.fields():
            pass
        assert self._fields is not None
        return self._fields


def _joined(fields: list[ReceptiveFields]) -> ReceptiveFields:
    return ReceptiveFields(
        tuple(name for one in fields for name in one.layers),
        np.concatenate([one.contributions for one in fields]),
        tuple(size for one in fields for size in one.maps),
        1,
        fields[0].sign,
    )


def view_of(fit: Preprocessing, size: Size) -> View:
    """Return the part of an image of ``size`` (height, width) that preprocessing keeps, within a pixel."""
    (height, width), (rows, columns) = size, fit.size
    if fit.takes_whole_image:
        return View(0, 0, height, width)
    resized = [int(side / fit.crop) for side in (rows, columns)]
    factor = min(height / resized[0], width / resized[1])  # pixels of the image per pixel of the network's
    return View((height - rows * factor) / 2, (width - columns * factor) / 2, rows * factor, columns * factor)
