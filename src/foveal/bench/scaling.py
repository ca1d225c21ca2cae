"""Time and memory against the size of the image: what a network's cost is proportional to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from foveal.bench.run import Result
from foveal.bench.subjects import BASELINE, ModelSubject, model_subjects

SIZES = ("224", "320", "448", "640", "768", "1024")
LINEAR_POOL = 7  # a TransNeXt's pooled map in linear mode, whatever the image's size


@dataclass(frozen=True)
class Growth:
    """One subject from the smallest to the largest size.

    Attributes:
        seconds: median of one image, one a size.
        growth: time of a pixel over that at the smallest size, one a size; 1 where time is proportional to the area.
        peak: bytes beyond the network, one a size; None where not measured.
        peak_growth: the same of peak memory.
    """

    name: str
    form: str
    sizes: tuple[tuple[int, int], ...]
    seconds: tuple[float, ...]
    growth: tuple[float, ...]
    peak: tuple[int | None, ...]
    peak_growth: tuple[float | None, ...]


def scaling_subjects(models: tuple[str, ...], forms: tuple[str, ...]) -> list[ModelSubject]:
    """Every model in every form, a TransNeXt in normal and in linear mode, and ConvNeXt-T beside them."""
    subjects = []
    for subject in model_subjects((*models, BASELINE), forms):
        subjects.append(subject)
        if subject.model.startswith("transnext"):
            subjects.append(replace(subject, options=(("pool_size", LINEAR_POOL),)))
    return subjects


def growth(results: Sequence[Result]) -> list[Growth]:
    """One a subject that was measured at two sizes at least, in the order of their first results."""
    found = []
    for name, form in dict.fromkeys((r.subject.name, r.subject.form) for r in results):
        own = [r for r in results if (r.subject.name, r.subject.form) == (name, form)]
        own.sort(key=lambda r: r.setting.pixels)
        if own[0].setting.pixels < own[-1].setting.pixels:
            found.append(_growth(name, form, own))
    return found


def _growth(name: str, form: str, own: list[Result]) -> Growth:
    sizes = tuple((r.setting.height, r.setting.width) for r in own)
    seconds = [r.seconds.p50 / r.setting.batch for r in own]
    peak = [None if r.peak is None else round(r.peak / r.setting.batch) for r in own]
    areas = [r.setting.pixels / own[0].setting.pixels for r in own]
    grown = [s / seconds[0] / area for s, area in zip(seconds, areas, strict=True)]
    peak_grown = [p / peak[0] / area if p and peak[0] else None for p, area in zip(peak, areas, strict=True)]
    return Growth(name, form, sizes, tuple(seconds), tuple(grown), tuple(peak), tuple(peak_grown))
