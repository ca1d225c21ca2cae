"""The results of ``gpu_pass.py`` as text: at most 80 columns and 10,000 characters; the JSON file has the rest."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]
COLUMNS, CHARACTERS = 80, 10_000
_FAILURES = 20  # shown at most
_DTYPES = ("fp32", "bf16", "fp16")
_KERNELS = (12, 12, 5, 5)  # shown of our two networks and of the peers


def summary(results: Row, path: str) -> str:
    """Return the text; ``path`` is the file that it refers to."""
    parts = results["parts"]
    sections = [
        _head(results, path),
        _failures(parts),
        _kernels(_rows(parts, "kernels")),
        _attention(_rows(parts, "attention")),
        _networks("inference", _rows(parts, "networks")),
        *(
            _networks(f"{mode}, compiled", [row for row in _rows(parts, "compiled") if row.get("mode") == mode])
            for mode in ("inference", "training")
        ),
        _training(_rows(parts, "training")),
    ]
    lines = [line[:COLUMNS].rstrip() for section in sections if section for line in [*section, ""]]
    text = "\n".join(lines)
    rest = "... the file has the rest"
    return text if len(text) < CHARACTERS else text[: CHARACTERS - len(rest) - 2].rpartition("\n")[0] + f"\n{rest}"


def _rows(parts: Row, name: str) -> list[Row]:
    return parts.get(name, {}).get("rows", [])


def _head(results: Row, path: str) -> list[str]:
    facts = results["facts"]
    known = [
        f"{name} {facts[name]}" for name in ("torch", "triton", "timm", "python", "cuda", "driver") if name in facts
    ]
    lines = [f"{facts['device']}, {facts['date']}, foveal {facts['foveal']} {facts['commit']}", ", ".join(known)]
    for name, part in results["parts"].items():
        cut = [row["row"] for row in part["rows"] if "cut" in row]
        missing = f", was at {', '.join(cut)}" if cut else ""
        time = f"{part['seconds']:.0f} of {part['limit_s']:.0f} s"
        lines.append(f"{name:<10} {part['state']}: {len(part['rows']) - len(cut)} rows in {time}{missing}")
    return [*lines, path]


def _failures(parts: Row) -> list[str]:
    failed = [f"{name}: {row['row']}: {row['failed']}" for name, part in parts.items() for row in _failed(part["rows"])]
    for name, part in parts.items():
        if part["state"] == "failed":
            said = [line for text in part.get("output", {}).values() for line in text.strip().splitlines()[-1:]]
            failed.append(f"{name}: a process could not run: {'; '.join(said) or 'it printed nothing'}")
    if not failed:
        return ["nothing failed"]
    lines = [f"{len(failed)} failed"]
    for one in failed[:_FAILURES]:
        lines += textwrap.wrap(one[:230], COLUMNS - 2, initial_indent="- ", subsequent_indent="  ")
    return lines + ([f"... and {len(failed) - _FAILURES} more"] if len(failed) > _FAILURES else [])


def _failed(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if "failed" in row]


def _kernels(rows: list[Row]) -> list[str]:
    """One line per operator and backend: shapes that passed, and the largest error as a share of what is allowed."""
    counted: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in rows:
        for backend, result in row.get("backends", {}).items():
            counted.setdefault((row["operator"], backend), {}).setdefault(row["dtype"], []).append(result)
    if not counted:
        return []
    dtypes = [dtype for dtype in _DTYPES if any(dtype in one for one in counted.values())]
    heading = "".join(f"{dtype:>17}" for dtype in dtypes)
    lines = ["kernels: shapes that passed, largest error as a share of the allowed one", f"{'':<29}{heading}"]
    for (operator, backend), by_dtype in counted.items():
        cells = "".join(f"{_passed(by_dtype.get(dtype, [])):>17}" for dtype in dtypes)
        lines.append(f"{operator:<21}{backend:<8}{cells}")
    return lines


def _passed(results: list[Row]) -> str:
    shares = [result["share"] for result in results if "share" in result]
    worst = f" {max(shares):.3f}" if shares else ""
    return f"{len(results) - len(_failed(results))}/{len(results)}{worst}" if results else ""


def _attention(rows: list[Row]) -> list[str]:
    """One line per place and mode: the fastest backend next to the plain form."""
    lines = []
    for row in rows:
        if len(row.get("subjects", [])) == 2:
            fused, plain = row["subjects"]
            memory = f"{fused['peak_mib']} / {plain['peak_mib']}" if "peak_mib" in fused else ""
            where = f"{row['place']:<9}{row['mode']:<10}{row['batch']:>6}  {fused['form']:<9}"
            lines.append(f"{where}{fused['p50_ms']:>9}{plain['p50_ms']:>9}{fused['ratio']:>8.1f}  {memory}")
    heading = f"{'':<9}{'':<10}{'batch':>6}  {'backend':<9}{'ms':>9}{'plain ms':>9}{'times':>8}  peak MiB / plain"
    return ["attention of TransNeXt-T, bf16", heading, *lines] if lines else []


def _networks(title: str, rows: list[Row]) -> list[str]:
    """One line per network: time, speed relative to ConvNeXt, and memory."""
    lines = []
    for row in _measured(rows):
        milliseconds, ratio = _time(row, rows)
        speed = f"{1e3 * row['batch'] / milliseconds:.0f}"
        figures = f"{milliseconds:>9}{speed:>7}{ratio:>9}{row['host_ms']:>8}{_allocated(row):>9}"
        lines.append(f"{_short(row['subject']):<16}{row['form']:<10}{row['batch']:>5}{figures}{row['first_s']:>7}")
    heading = f"{'':<26}{'batch':>5}{'ms':>9}{'img/s':>7}{'ConvNeXt':>9}{'host ms':>8}{'peak MiB':>9}{'1st s':>7}"
    return [f"{title}, bf16 (ConvNeXt: times as fast)", heading, *lines] if lines else []


def _training(rows: list[Row]) -> list[str]:
    """One line per network that says whose time a step takes; then the kernels that take the most."""
    profiles = {row["subject"]: row for row in rows if row.get("profile") and "failed" not in row and "cut" not in row}
    lines = []
    for row in _measured(rows):
        milliseconds, ratio = _time(row, rows)
        kernels = profiles.get(row["subject"])
        busy = f"{kernels['kernel_ms']:>9}{kernels['kernel_ms'] / milliseconds:>6.0%}" if kernels else f"{'':>15}"
        launches = f"{kernels['launches']:>8}" if kernels else f"{'':>8}"
        figures = f"{milliseconds:>9}{row['host_ms']:>9}{busy}{launches}{ratio:>9}{_allocated(row):>10}"
        lines.append(f"{_short(row['subject']):<15}{row['batch']:>5}{figures}")
    if not lines:
        return []
    columns = f"{'ms':>9}{'host ms':>9}{'GPU ms':>9}{'busy':>6}{'kernels':>8}{'ConvNeXt':>9}{'peak MiB':>10}"
    lines = [
        "training step, bf16 autocast: all, until it returns, its kernels",
        f"{'':<15}{'batch':>5}{columns}",
        *lines,
    ]
    for shown, (name, row) in zip(_KERNELS, profiles.items(), strict=False):
        lines += ["", f"{_short(name)}: ms, launches, kernel"]
        lines += [f"{k['ms']:>8} {k['launches']:>6.0f}  {k['name']}" for k in row["kernels"][:shown]]
    return lines


def _measured(rows: list[Row]) -> list[Row]:
    return [row for row in rows if "ms" in row]


def _time(row: Row, rows: list[Row]) -> tuple[float, str]:
    """Return the milliseconds of a network and its ratio: interleaved, or marked with ~ from separate runs."""
    for other in rows:
        for subject in other.get("subjects", []):
            if (subject["subject"], subject["form"]) == (row["subject"], row["form"]):
                return subject["p50_ms"], f"{subject['ratio']:.2f}" if "ratio" in subject else ""
    baseline = next((one["ms"] for one in _measured(rows) if "convnext" in one["subject"]), None)
    return row["ms"], f"~{baseline / row['ms']:.2f}" if baseline else ""


def _allocated(row: Row) -> str:
    return str(row["held_mib"] + row["peak_mib"]) if "peak_mib" in row else ""


def _short(name: str) -> str:
    return name.partition("_patch")[0]
