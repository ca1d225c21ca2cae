"""Where the evidence for a class, a box or a region of a photograph lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch

from foveal.errors import FovealError
from foveal.explain import WatchedScores, box_score, class_score, region_score, watch_scores
from foveal.explain.cam import Method, Score
from foveal.explain.figures.activation_map import Evidence, activation_figure
from foveal.explain.layers import Layer, named_layer, stage_layer
from foveal.explain.token_grid import stride_of
from foveal.models.pyramid import Pyramid
from foveal.near import did_you_mean
from foveal.report.explanation.picture import Picture
from foveal.report.explanation.subject import Photograph, Subject

_Shown = tuple[list[Evidence], list[dict[str, Any]]]  # panels, and what is said of each
NAMES = {"grad": "Grad-CAM", "hires": "HiRes-CAM"}


def activation_picture(
    subject: Subject,
    photo: Photograph,
    wanted: Sequence[str],
    stage: int,
    method: Method,
    layer: str | None = None,
) -> Picture:
    """Return the evidence for some classes of a photograph.

    Args:
        subject: a classifier, detector or segmenter.
        photo: of ``look_at`` for a classifier, otherwise of ``look_at_whole``.
        wanted: names or indices of classes; for a detector indices of boxes, best first. None of them takes the most
            probable class, the best box, or the class with the largest area.
        stage: whose map is shown, counted from 0 with negative ones from the end.
        method: "grad" or "hires".
        layer: name of a module of the backbone whose output is a map, instead of a stage.

    Raises:
        FovealError: no such class, box, stage or layer, or nothing was detected.
    """
    place = stage_layer(subject.body, stage) if layer is None else named_layer(subject.body, layer)
    explain = {"classification": _class, "detection": _boxes, "segmentation": _regions}[subject.kind]
    shown, facts = explain(subject, photo, wanted, place, method)
    where = layer if layer is not None else "the last stage" if stage == -1 else f"stage {stage + 1}"
    return evidence_picture(subject, photo, shown, facts, method, where)


def evidence_picture(
    subject: Subject, photo: Photograph, shown: Sequence[Evidence], facts: Sequence[dict], method: Method, where: str
) -> Picture:
    """Return the picture of evidence that was computed: ``where`` names the stage or layer."""
    title = f"{NAMES[method]} of {where}"
    caption = f"{title} of {subject.caption}: {photo.name}.{photo.credited}"
    figure = activation_figure(photo.pixels, shown, title, caption)
    arrays = {f"evidence_{index}": evidence.heat for index, evidence in enumerate(shown)}
    return Picture(f"{photo.name}-gradcam", figure, arrays, {"method": NAMES[method], "shown": list(facts)})


def _class(subject: Subject, photo: Photograph, wanted: Sequence[str], layer: Layer, method: Method) -> _Shown:
    watched = watch_scores(subject.model, _placed(subject, photo.tensor[None]), layer)
    logits = watched.outputs.detach()[0]
    probabilities = subject.probabilities(logits)
    labels = [_label(subject.classes, name) for name in wanted] or [int(logits.argmax())]
    shown, facts = [], []
    for label in labels:
        name, share = subject.classes[label], float(probabilities[label])
        heat = heat_on_photograph(watched, class_score(label), method, photo, photo.tensor.shape[1], subject)
        shown.append(Evidence(heat, f"{name}, {100 * share:.1f} %"))
        facts.append({"class": name, "index": label, "probability": round(share, 6)})
    return shown, facts


def _boxes(subject: Subject, photo: Photograph, wanted: Sequence[str], layer: Layer, method: Method) -> _Shown:
    watched = watch_scores(subject.model, [_placed(subject, photo.tensor)], layer)
    (found,) = watched.outputs
    boxes, labels, scores = (found[name].detach() for name in ("boxes", "labels", "scores"))
    if not len(scores):
        raise FovealError(f"Nothing was detected on {photo.name}, so there is no box to explain: pass another image.")
    batch, _ = cast(Any, subject.model).images([photo.tensor])
    shown, facts = [], []
    for index in [_index(name, "box") for name in wanted] or [0]:
        heat = heat_on_photograph(watched, box_score(index), method, photo, batch.image_sizes[0][0], subject)
        name, score = subject.classes[int(labels[index])], float(scores[index])
        box = tuple(round(value, 2) for value in boxes[index].tolist())
        shown.append(Evidence(heat, f"{name}, {100 * score:.1f} %", cast(Any, box)))
        facts.append({"box": list(box), "class": name, "index": index, "score": round(score, 6)})
    return shown, facts


def _regions(subject: Subject, photo: Photograph, wanted: Sequence[str], layer: Layer, method: Method) -> _Shown:
    watched = watch_scores(subject.model, _placed(subject, photo.tensor[None]), layer)
    labels = watched.outputs.detach()[0].argmax(0)
    areas = torch.bincount(labels.flatten(), minlength=len(subject.classes)) / labels.numel()
    shown, facts = [], []
    for label in [_label(subject.classes, name) for name in wanted] or [int(areas.argmax())]:
        heat = heat_on_photograph(watched, region_score(label), method, photo, photo.tensor.shape[1], subject)
        name, area = subject.classes[label], float(areas[label])
        shown.append(Evidence(heat, f"{name}, {100 * area:.1f} % of the area"))
        facts.append({"class": name, "index": label, "area": round(area, 6)})
    return shown, facts


def heat_on_photograph(
    watched: WatchedScores, score: Score, method: Method, photo: Photograph, height: int, subject: Subject
) -> np.ndarray:
    """Return (H, W) float32, the heat at each pixel of the photograph, which the network saw at ``height`` pixels."""
    found = watched.map(score, method)
    stride = stride_of(height, found.evidence.shape[0]) * photo.pixels.shape[0] / height
    return found.on_image(photo.pixels.shape[:2], stride, overlapping=isinstance(subject.body, Pyramid))


def _placed(subject: Subject, tensor: torch.Tensor) -> torch.Tensor:
    weight = next(subject.model.parameters())
    return tensor.to(weight.device, weight.dtype)


def _label(classes: Sequence[str], name: str) -> int:
    """Return the index of a class from its name, part of its name that no other has, or its index."""
    if name in classes:
        return list(classes).index(name)
    if name.isdigit() and int(name) < len(classes):
        return int(name)
    found = [index for index, one in enumerate(classes) if name.lower() in one.lower()]
    if len(found) != 1:
        none = f"There is no class {name!r}{did_you_mean(name, classes)}"
        several = f"{len(found)} classes contain {name!r}" if found else none
        raise FovealError(f"{several}: pass the whole name, or an index from 0 to {len(classes) - 1}.")
    return found[0]


def _index(text: str, noun: str) -> int:
    if not text.isdigit():
        raise FovealError(f"A {noun} is chosen by its index, best first from 0, not {text!r}.")
    return int(text)
