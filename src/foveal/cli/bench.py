"""``foveal bench``: speed beside timm's peers, in one interleaved run."""

from dataclasses import asdict
from typing import Annotated, Literal

import torch
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from foveal.bench.measure import Timing, interleave
from foveal.bench.subjects import BASELINE, MODELS, PEERS, model_calls, operator_calls
from foveal.cli.console import Json, print_json
from foveal.errors import FovealError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def main(
    what: Annotated[Positional[str], arg(metavar="models,ops")] = "models",
    *,
    peers: bool = False,
    models: tuple[str, ...] = MODELS,
    mode: Literal["inference", "training"] = "inference",
    batch: int = 8,
    size: int = 224,
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32",
    device: str = "cpu",
    rounds: int = 7,
    json: Json = False,
) -> None:
    """Speed of models and operators. All are timed in turn, round after round: compare ratios, not seconds of
    different runs.

    Args:
        what: models, ops, or both with a comma.
        peers: Time timm's ConvNeXt-T, Swin-T and PVTv2-B2 in the same run.
        models: Names of the models to time.
        mode: inference is a forward pass, training a forward and a backward pass.
        batch: Images a call.
        size: Side of the images in pixels.
        dtype: Half types run under autocast.
        device: cpu, cuda, cuda:1, ...
        rounds: Counted rounds, after two that are not.
    """
    parts = what.split(",")
    if unknown := [p for p in parts if p not in ("models", "ops")]:
        raise FovealError(f"There is nothing called {unknown[0]!r} to time: say models, ops, or models,ops.")
    _check(batch, size, rounds, device)
    results: dict[str, dict[str, Timing]] = {}
    if "models" in parts:
        names = (*models, *(p for p in PEERS if peers))
        results["models"] = interleave(model_calls(names, mode, batch, size, device, DTYPES[dtype]), rounds)
    if "ops" in parts:
        results["ops"] = interleave(operator_calls(mode, batch, device, DTYPES[dtype]), rounds)
    if json:
        print_json({part: {name: asdict(t) for name, t in timings.items()} for part, timings in results.items()})
        return
    console = Console()
    for part, timings in results.items():
        console.print(_table(part, timings, batch))
    console.print(
        f"{mode}, batch {batch}, {size} pixels, {dtype}, {device}, torch {torch.__version__}", highlight=False
    )


def _check(batch: int, size: int, rounds: int, device: str) -> None:
    for name, value, least in (("--batch", batch, 1), ("--size", size, 32), ("--rounds", rounds, 2)):
        if value < least:
            raise FovealError(f"{name} must be at least {least}, not {value}.")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise FovealError(f"There is no device {device!r} here: leave --device out, or name another.") from None


def _table(part: str, timings: dict[str, Timing], batch: int) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(part, no_wrap=True)
    for title in ("ms p50", "p20", "p80", "images/s", f"x {BASELINE}"):
        table.add_column(title, justify="right", no_wrap=True)
    baseline = timings.get(BASELINE)
    for name, t in timings.items():
        ratio = f"{baseline.p50 / t.p50:.2f}" if baseline else ""
        milliseconds = [f"{1e3 * s:.1f}" for s in (t.p50, t.p20, t.p80)]
        table.add_row(name, *milliseconds, f"{batch / t.p50:.1f}", ratio)
    return table
