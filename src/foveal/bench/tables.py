"""Measurements as tables of at most 80 columns."""

from collections.abc import Sequence
from itertools import groupby

from rich.table import Table

from foveal.bench.measure import Spread
from foveal.bench.operators import OperatorSubject
from foveal.bench.results import Comparison, Growth, LeftOut, Result
from foveal.bench.settings import INT8
from foveal.bench.subjects import Subject, published_accuracy
from foveal.ops.int8 import why_slow

_MIB = 2**20


def tables(results: Sequence[Result]) -> list[tuple[str, Table]]:
    """Return pairs (title, table), one per setting, in the order of the results."""
    groups = groupby(results, key=lambda result: result.setting)
    return [(str(setting), _table(list(group))) for setting, group in groups]


def growth_table(grown: Sequence[Growth]) -> Table:
    """Return a table of milliseconds per image by size, and of the growth of time and memory per pixel."""
    table = _empty(("model", "form"))
    sizes = list(dict.fromkeys(size for one in grown for size in one.sizes))
    for size in sizes:
        table.add_column(_side(size), justify="right", no_wrap=True)
    for heading in ("time/px", "mem/px"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in grown:
        seconds = dict(zip(one.sizes, one.seconds, strict=True))
        times = [_number(1e3 * seconds[size]) if size in seconds else "" for size in sizes]
        memory = "" if one.peak_growth[-1] is None else f"x{one.peak_growth[-1]:.2f}"
        table.add_row(_short(one.name), one.form, *times, f"x{one.growth[-1]:.2f}", memory)
    return table


def comparison_table(compared: Sequence[Comparison]) -> Table:
    """Return a table of networks beside their peers at equal accuracy, with the speedup over each peer."""
    table = _empty(("model", "form"))
    table.add_column("top-1", justify="right", no_wrap=True)
    table.add_column("peer", no_wrap=True)
    for heading in ("top-1", "x", "p20-p80"):
        table.add_column(heading, justify="right", no_wrap=True)
    for _, pairs in groupby(compared, key=lambda pair: pair.network):
        for first, pair in enumerate(pairs):
            network, peer, speedup = pair.network.subject, pair.peer.subject, pair.speedup
            own = ["", "", ""] if first else [_short(network.name), network.form, _top1(network)]
            table.add_row(*own, _short(peer.name), _top1(peer), f"{speedup.p50:.2f}", _range(speedup))
    return table


def left_out_lines(left_out: Sequence[LeftOut]) -> list[str]:
    """Return one line per subject and reason, for all settings together."""
    return list(dict.fromkeys(f"Left out: {one.name}, {one.form}: {one.reason}." for one in left_out))


def remarks(results: Sequence[Result], facts: dict[str, str]) -> list[str]:
    """Return lines that explain the columns and say where they were measured."""
    of_operators = isinstance(results[0].subject, OperatorSubject)
    baseline = "the reference backend" if of_operators else "ConvNeXt-T (eager; compiled for compiled networks)"
    columns = [f"ms: median of {results[0].rounds} rounds, then 20th to 80th percentile"]
    if any(r.ratio for r in results):
        columns.append(f"x: speedup over {baseline}, median of the rounds' ratios; above 1 is faster")
    if any(r.peak is not None for r in results):
        columns.append("MiB: peak memory beyond the network and its inputs")
    if any(r.setting.training for r in results):
        columns.append(f"training: forward, {'' if of_operators else 'loss, '}backward; no optimiser")
    if any(r.setting.dtype == INT8 for r in results):
        columns.append(f"int8: products by foveal.quantize{_slow()}; eager and compiled networks beside it are in fp32")
    return ["; ".join(columns) + ".", machine_line(facts)]


def machine_line(facts: dict[str, str]) -> str:
    """Return a line that says where something was measured, and with which versions."""
    memory = f"allocator keeps freed memory: {facts['keep_memory']}"
    where = f"{facts['device']}, threads: {facts['threads']}, {memory}"
    what = f"foveal {facts['foveal']} ({facts['commit']}), torch {facts['torch']}, timm {facts['timm']}"
    return f"{where}, {what}."


def _slow() -> str:
    reason = why_slow()
    return "" if reason is None else f", in float32 ({reason})"


def _table(results: Sequence[Result]) -> Table:
    of_operators = isinstance(results[0].subject, OperatorSubject)
    table = _empty(("operator", "", "backend") if of_operators else ("model", "form"))
    for heading in ("ms", "p20-p80", "GB/s" if of_operators else "img/s", "x", "p20-p80", "MiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        table.add_row(*_cells(result))
    return table


def _cells(result: Result) -> list[str]:
    subject, seconds, ratio = result.subject, result.seconds, result.ratio
    if isinstance(subject, OperatorSubject):
        named = [subject.place.operator, subject.place.title, subject.form]
        speed = _number((result.moved or 0) / seconds.p50 / 1e9)
    else:
        named = [_short(subject.name), subject.form]
        speed = _number(result.setting.batch / seconds.p50)
    times = [f"{ratio.p50:.2f}", _range(ratio)] if ratio else ["", ""]
    peak = "" if result.peak is None else f"{result.peak / _MIB:.0f}"
    return [*named, _number(1e3 * seconds.p50), _range(seconds, 1e3), speed, *times, peak]


def _top1(subject: Subject) -> str:
    accuracy = published_accuracy(subject)
    return str(accuracy.top1) if accuracy else ""


def _empty(headings: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table


def _short(name: str) -> str:
    """Shorten timm's long names."""
    return name.partition("_patch")[0].replace("pool_size=", "pool ")


def _side(size: tuple[int, int]) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def _range(spread: Spread, unit: float = 1.0) -> str:
    return f"{_number(unit * spread.p20)}-{_number(unit * spread.p80)}"


def _number(value: float) -> str:
    """Format with three significant digits, and all digits before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
