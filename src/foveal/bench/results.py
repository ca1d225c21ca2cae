"""What was measured: results, their growth with the image size, and rows of the CSV files in benchmarks/results."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from foveal.bench.measure import Spread, ratios
from foveal.bench.peers import peers_of
from foveal.bench.settings import INT8, Setting
from foveal.bench.subjects import QUANTIZED, ModelSubject, Subject, beside, is_ours, published_accuracy
from foveal.errors import FovealError
from foveal.files import atomic_file
from foveal.types import Size

_MIB = 2**20
#: Times in milliseconds per call; ratios are speedups over the baseline, above 1 is faster; memory in MiB: ``held_mib``
#: network and inputs, ``peak_mib`` the peak beyond these; ``gb_per_s`` bytes that must move, divided by p50; ``top1``
#: published ImageNet-1K accuracy in percent at 224 pixels, whatever the size of the row.
COLUMNS = (
    "date", "commit", "device", "threads", "keep_memory", "torch", "timm", "foveal", "triton",
    "part", "subject", "form", "dtype", "casting", "mode", "batch", "height", "width", "rounds",
    "p20_ms", "p50_ms", "p80_ms", "baseline", "ratio_p20", "ratio_p50", "ratio_p80",
    "held_mib", "peak_mib", "gb_per_s", "top1", "top1_source",
)  # fmt: skip
_EARLIER = COLUMNS[:-2]  # of files before the accuracy was recorded
Row = dict[str, str | int | float | None]


@dataclass(frozen=True)
class Result:
    """Measurements of one subject in one setting.

    Attributes:
        subject: what was measured.
        setting: the setting it was measured in.
        rounds: number of counted rounds.
        seconds: seconds per call.
        baseline: the subject that it is compared with, or None.
        ratio: speedup over the baseline, over the rounds, or None.
        held: bytes of network and inputs.
        peak: peak memory beyond these in bytes, or None if not measured.
        moved: bytes that a call must move, or None.
        per_round: seconds per call in every counted round, for ratios to other subjects of the same run.
    """

    subject: Subject
    setting: Setting
    rounds: int
    seconds: Spread
    baseline: Subject | None
    ratio: Spread | None
    held: int
    peak: int | None
    moved: int | None
    per_round: tuple[float, ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """A subject that was not measured, with the reason."""

    name: str
    form: str
    setting: Setting
    reason: str


@dataclass(frozen=True)
class Outcome:
    """Results of one or more settings, and the subjects left out."""

    results: list[Result] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.results + other.results, self.left_out + other.left_out)


@dataclass(frozen=True)
class Growth:
    """Cost of one subject from the smallest to the largest image size; all tuples have one value per size.

    Attributes:
        name: name of the subject.
        form: form of the subject.
        sizes: image sizes, smallest first.
        seconds: median time per image.
        growth: time per pixel relative to the smallest size; 1 if time is proportional to the area.
        peak: bytes per image beyond the network; None if not measured.
        peak_growth: peak memory per pixel relative to the smallest size; None if not measured.
    """

    name: str
    form: str
    sizes: tuple[Size, ...]
    seconds: tuple[float, ...]
    growth: tuple[float, ...]
    peak: tuple[int | None, ...]
    peak_growth: tuple[float | None, ...]


def growth(results: Sequence[Result]) -> list[Growth]:
    """Return the growth of every subject measured at two or more sizes, in the order of their first results."""
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


@dataclass(frozen=True)
class Comparison:
    """A network of foveal and a peer at equal accuracy, timed in one run; ``speedup`` is over the peer."""

    network: Result
    peer: Result
    speedup: Spread


def comparisons(results: Sequence[Result]) -> list[Comparison]:
    """Return every network of foveal beside its measured peers at equal accuracy, the fastest peer first."""
    measured = {(r.subject, r.setting): r for r in results}
    found = []
    for network in results:
        subject = network.subject
        if not isinstance(subject, ModelSubject) or published_accuracy(subject) is None or not is_ours(subject.model):
            continue
        peers = [measured.get((beside(subject, model), network.setting)) for model in peers_of(subject.model)]
        pairs = [
            Comparison(network, peer, Spread.of(ratios(peer.per_round, network.per_round))) for peer in peers if peer
        ]
        found += sorted(pairs, key=lambda pair: pair.speedup.p50)
    return found


def row(part: str, result: Result, facts: Mapping[str, str]) -> Row:
    """Return one result as a row with the keys ``COLUMNS``; None if not measured, numbers rounded to four digits.

    Args:
        part: models, ops or scaling.
        result: the measurements.
        facts: facts about the machine, see ``machine_facts``.
    """
    subject, setting, baseline = result.subject, result.setting, result.baseline
    accuracy = published_accuracy(subject)
    values = {
        **facts,
        **{name: getattr(setting, name) for name in ("casting", "mode", "batch", "height", "width")},
        "dtype": "fp32" if setting.dtype == INT8 and subject.form != QUANTIZED else setting.dtype,
        **_spread(result.seconds, "{}_ms", 1e3),
        **_spread(result.ratio, "ratio_{}"),
        "part": part,
        "subject": subject.name,
        "form": subject.form,
        "rounds": result.rounds,
        "baseline": f"{baseline.name} {baseline.form}" if baseline else None,
        "held_mib": _rounded(result.held / _MIB),
        "peak_mib": None if result.peak is None else _rounded(result.peak / _MIB),
        "gb_per_s": None if result.moved is None else _rounded(result.moved / result.seconds.p50 / 1e9),
        "top1": accuracy.top1 if accuracy else None,
        "top1_source": accuracy.source if accuracy else None,
    }
    return {column: values[column] for column in COLUMNS}


def _spread(spread: Spread | None, name: str, unit: float = 1.0) -> Row:
    percentiles = ("p20", "p50", "p80")
    return {name.format(p): _rounded(unit * getattr(spread, p)) if spread else None for p in percentiles}


def check_csv(path: Path) -> None:
    """Raise FovealError, before the measurements, if ``append_rows`` would."""
    if not path.parent.is_dir():
        raise FovealError(f"There is no folder {path.parent} to write {path.name} into: create it first.")
    if path.exists() and path.stat().st_size and _header(path) not in (COLUMNS, _EARLIER):
        raise FovealError(f"{path} has other columns than this version writes: name a new file, or move this one away.")


def append_rows(path: Path, rows: Iterable[Row]) -> None:
    """Append rows to a file, with a header if it is new; existing rows are unchanged.

    A file of an earlier version first gets the columns that it lacks, empty in its rows.

    Raises:
        FovealError: the file has other columns, or its folder does not exist.
    """
    check_csv(path)
    new = not path.exists() or not path.stat().st_size
    if not new and _header(path) == _EARLIER:
        _add_columns(path)
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(_text(rows, header=new))  # in one piece: an interruption leaves whole rows


def _add_columns(path: Path) -> None:
    with path.open(encoding="utf-8", newline="") as file:
        text = _text(csv.DictReader(file), header=True)
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8", newline="")


def _text(rows: Iterable[Mapping[str, object]], header: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _header(path: Path) -> tuple[str, ...]:
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(next(csv.reader(file), ()))


def _rounded(value: float) -> float:
    """Round to four significant digits."""
    return float(f"{value:.4g}")
