"""Parameters and multiply-adds of a paper's table, counted again for its rows that are networks of this library."""

from collections.abc import Callable
from functools import cache

import timm
import torch

from foveal.models.counting import flops
from foveal.papers import PaperTable, Row
from foveal.tasks.dense.counting import count_detector, count_segmenter
from foveal.tasks.detection import create_detector
from foveal.tasks.segmentation import create_segmenter

_DETECTORS = ("mask_rcnn", "retinanet", "dino")
_SEMANTIC_FPN_SIZE = (512, 2048)  # of the images that TransXNet's tables count segmenters for
_UNITS = {"params": 1e6, "macs": 1e9}


def count_table(table: PaperTable, on_cell: Callable[[int, int], None]) -> dict[tuple[int, str], float]:
    """Return the counts of a table's cells by index of the row and name of the column, in M and G.

    Args:
        table: a table; what can be counted in it is in its ``counts``.
        on_cell: called with (done, total) after each cell.
    """
    cells = [(i, column) for i, row in enumerate(table.rows) if row.model for column in table.counts]
    counted = {}
    for done, (index, column) in enumerate(cells, 1):
        counted[index, column] = _count(table.counts[column], table.rows[index])
        on_cell(done, len(cells))
    return counted


def _count(what: str, row: Row) -> float:
    """Count "params" or "macs" of a row's network, or "params of HEAD"."""
    quantity, _, head = what.partition(" of ")
    levels = row.number("scales") if head == "dino" else None
    both = _of_head(head, row.model.partition(".")[0], levels, quantity) if head else _of_network(row.model)
    return both[quantity] / _UNITS[quantity]


@cache
def _of_network(model: str) -> dict[str, int]:
    with torch.device("meta"):
        count = flops(timm.create_model(model, device="meta"))
    return {"params": count.params, "macs": count.paper_macs}


@cache
def _of_head(head: str, backbone: str, levels: int | None, quantity: str) -> dict[str, int]:
    """Multiply-adds take seconds, so they are counted only if ``quantity`` asks for them."""
    options = {} if levels is None else {"num_levels": levels}
    detects = head in _DETECTORS
    with torch.device("meta"):
        network = (create_detector if detects else create_segmenter)(head, backbone, **options)
    if quantity == "params":
        return {"params": sum(p.numel() for p in network.parameters())}
    count = count_detector(network) if detects else count_segmenter(network, _SEMANTIC_FPN_SIZE)
    return {"macs": count.paper_macs}
