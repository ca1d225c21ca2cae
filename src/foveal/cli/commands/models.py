"""``foveal models``: every model with its size, its cost, its published accuracy and the home of its weights."""

import re
from dataclasses import asdict
from fnmatch import fnmatch
from typing import Annotated

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from foveal.cli.console import Json, columns, print_json, say
from foveal.cli.lists import models
from foveal.errors import FovealError
from foveal.listed_model import ListedModel
from foveal.near import did_you_mean
from foveal.wording import in_units


def main(pattern: Annotated[Positional[str], arg(metavar="PATTERN")] = "*", *, json: Json = False) -> None:
    """Every model: parameters, multiply-adds, published ImageNet-1K accuracy, where to download its weights.

    Multiply-adds are counted here at the size shown, on one image; the paper's figure stands beside ours. TransXNet's
    paper counts only layers, TransNeXt's counts all products (see foveal.flops): ours is counted by the same rule.

    Args:
        pattern: A name or a part of one, with * and ? as in a shell.
    """
    entries = [one for one in models() if fnmatch(one.name, f"*{pattern}*")]
    if not entries:
        near = did_you_mean(pattern, [part for one in models() for part in (one.name, *re.split("[_.]", one.name))])
        raise FovealError(f"No model matches {pattern!r}{near}: `foveal models` shows all of them.")
    if json:
        print_json([asdict(e) for e in entries])
        return
    Console().print(_table(entries))
    for entry in entries:
        if entry.home:
            print(f"{entry.name:<29} {entry.home}")
    say("Models without a published accuracy are ours: small, untrained, for experiments on a laptop.")


def _table(entries: list[ListedModel]) -> Table:
    table = columns(["model"], ["pixels", "params M", "paper", "MACs G", "paper", "top-1 %"], gap=2)
    for e in entries:
        table.add_row(
            e.name,
            str(e.size),
            in_units(e.params, 1e6),
            _or_blank(e.published_params),
            in_units(e.paper_macs, 1e9),
            _or_blank(e.published_macs),
            _or_blank(e.top1),
        )
    return table


def _or_blank(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
