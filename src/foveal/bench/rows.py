"""A measurement as a row: the columns of benchmarks/results, and the CSV files that hold them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from foveal.bench.measure import Spread
from foveal.bench.run import Result
from foveal.errors import FovealError

_MIB = 2**20
#: Times in milliseconds a call; ratios are times faster than the baseline, above 1 is faster; memory in MiB:
#: `held_mib` network and inputs, `peak_mib` at the most beyond these; `gb_per_s` bytes that must move, over p50.
COLUMNS = (
    "date", "commit", "device", "threads", "keep_memory", "torch", "timm", "foveal", "triton",
    "part", "subject", "form", "dtype", "casting", "mode", "batch", "height", "width", "rounds",
    "p20_ms", "p50_ms", "p80_ms", "baseline", "ratio_p20", "ratio_p50", "ratio_p80",
    "held_mib", "peak_mib", "gb_per_s",
)  # fmt: skip
Row = dict[str, str | int | float | None]


def row(part: str, result: Result, facts: Mapping[str, str]) -> Row:
    """One measurement by COLUMNS; None where nothing was measured, numbers rounded to four digits.

    Args:
        part: models, ops or scaling.
        result: what was measured.
        facts: of the machine, see `machine_facts`.
    """
    subject, setting, baseline = result.subject, result.setting, result.baseline
    values = {
        **facts,
        **{name: getattr(setting, name) for name in ("dtype", "casting", "mode", "batch", "height", "width")},
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
    }
    return {column: values[column] for column in COLUMNS}


def _spread(spread: Spread | None, name: str, unit: float = 1.0) -> Row:
    percentiles = ("p20", "p50", "p80")
    return {name.format(p): _rounded(unit * getattr(spread, p)) if spread else None for p in percentiles}


def check_csv(path: Path) -> None:
    """Raise the FovealError that `append_rows` would raise, before the work that ends in rows."""
    if not path.parent.is_dir():
        raise FovealError(f"There is no folder {path.parent} to write {path.name} into: make it first.")
    if path.exists() and path.stat().st_size and _header(path) != list(COLUMNS):
        raise FovealError(f"{path} has other columns than this version writes: name a new file, or move this one away.")


def append_rows(path: Path, rows: Iterable[Row]) -> None:
    """Add rows at the end of a file, with a header where it is new; nothing that stands there is changed.

    Raises:
        FovealError: the file has other columns, or its folder is not there.
    """
    check_csv(path)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if not path.exists() or not path.stat().st_size:
        writer.writeheader()
    writer.writerows(rows)
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(text.getvalue())  # in one piece: an interruption leaves whole rows


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file), [])


def _rounded(value: float) -> float:
    """To four significant digits."""
    return float(f"{value:.4g}")
