"""Effective receptive fields of one or more networks, averaged over images, in one figure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from foveal.explain import EffectiveReceptiveField, Layer, ReceptiveFields, area_ratios, blockiness, effective_radius
from foveal.explain.field_measures import THRESHOLDS, WINDOW
from foveal.explain.figures.receptive_field import receptive_field_figure
from foveal.explain.receptive_field import Sign
from foveal.explain.token_grid import stride_of
from foveal.report.explanation.picture import Picture
from foveal.report.explanation.subject import Subject

SAVED_EVERY = 8  # batches


def receptive_fields(
    subject: Subject,
    images: Sequence[Path],
    folder: Path,
    name: str,
    layers: Mapping[str, Layer] | None = None,
    *,
    sign: Sign = "absolute",
    batch_size: int = 4,
    on_image: Callable[[int, int], None] | None = None,
) -> ReceptiveFields:
    """Return the mean fields over images, and keep sums in a file, from which an interrupted call continues.

    The file is called after the network and a digest of its weights, the preprocessing and the layers, and knows images
    by path and content: what it has is not computed again. If it has others, the sums start anew.

    Args:
        subject: the network.
        images: paths.
        folder: of the file; it exists.
        name: beginning of the file's name.
        layers: places by name; None takes the stages.
        sign: which derivatives count, as in ``EffectiveReceptiveField``.
        batch_size: images per pass.
        on_image: called with (done, total) after each batch.

    Raises:
        FovealError: an image that cannot be read, or a network whose receptive field has no meaning.
    """
    names = {path: f"{path} {_digest(path.read_bytes() if path.is_file() else b'')}" for path in images}
    field = EffectiveReceptiveField(subject.body, layers, sign)
    settings = [field.network, subject.fit, sign, *_places(subject, layers)]
    state = folder / f"{name}-{_digest(repr(settings).encode())[:8]}.state.npz"
    if state.exists():
        field.load(state)
        if not set(field.counted) <= set(names.values()):
            field = EffectiveReceptiveField(subject.body, layers, sign)
    known = set(field.counted)
    left = [path for path in images if names[path] not in known]
    weight = next(subject.body.parameters())
    try:
        for start in range(0, len(left), batch_size):
            paths = left[start : start + batch_size]
            batch = torch.stack([subject.look_at(path).tensor for path in paths])
            field.add(batch.to(weight.device, weight.dtype), [names[path] for path in paths])
            if (start // batch_size + 1) % SAVED_EVERY == 0:
                field.save(state)
            if on_image is not None:
                on_image(len(images) - len(left) + start + len(paths), len(images))
    finally:
        if field.counted:
            field.save(state)
    return field.result()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _places(subject: Subject, layers: Mapping[str, Layer] | None) -> list[tuple[str, ...]]:
    """Return what the layers are, by the names of their modules."""
    named = {module: name for name, module in subject.body.named_modules()}
    found = (layers or {}).items()
    return [(name, named[layer.find(subject.body)], layer.layout, layer.side) for name, layer in found]


def field_picture(name: str, rows: Sequence[tuple[Subject, ReceptiveFields]]) -> Picture:
    """Return the figure of all networks, with their measures."""
    note = "; ".join(subject.caption for subject, _ in rows) + "."
    figure = receptive_field_figure([(subject.name, fields) for subject, fields in rows], note)
    arrays = {
        f"{subject.name}_{layer.replace(' ', '_')}": contribution
        for subject, fields in rows
        for layer, contribution in zip(fields.layers, fields.contributions, strict=True)
    }
    return Picture(name, figure, arrays, {"networks": [_measures(subject, fields) for subject, fields in rows]})


def _measures(subject: Subject, fields: ReceptiveFields) -> dict:
    height = fields.contributions.shape[1]
    layers = []
    for layer, contribution, size in zip(fields.layers, fields.contributions, fields.maps, strict=True):
        ratios = area_ratios(contribution)
        stride = stride_of(height, size[0])
        fits = min(size) >= 2 * WINDOW
        layers.append(
            {
                "layer": layer,
                "area_ratio": dict(zip(map("{:g}".format, THRESHOLDS), ratios.round(5).tolist(), strict=True)),
                "radius": round(effective_radius(contribution), 2),
                "blockiness": round(blockiness(contribution, stride), 4) if fits else None,
            }
        )
    return {"network": subject.name, "weights": subject.weights, "images": fields.images, "layers": layers}
