"""Parameters and multiply-adds of a paper's table, counted again for its rows that are networks of this library."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from foveal.models.catalogue import count_model, entry
from foveal.papers import PaperTable, Row
from foveal.tasks.dense.counting import count_detector, count_segmenter
from foveal.tasks.detection import create_detector
from foveal.tasks.segmentation import create_segmenter

_DETECTORS = ("mask_rcnn", "retinanet", "dino")
_SEGMENTED_SIZE = (512, 2048)  # of the images that TransXNet's tables count segmenters for
_UNITS = {"params": 1e6, "macs": 1e9}


def count_table(table: PaperTable, on_cell: Callable[[int, int], None]) -> dict[tuple[int, str], float]:
    """Return the counts of a table's cells by index of the row and name of the column, in M and G.

    Args:
        table: a table; what can be counted in it is in its ``counts``.
        on_cell: called with (done, total) after each cell.
    """
    models = [(index, row) for index, row in enumerate(table.rows) if row.model]
    counted: dict[tuple[int, str], float] = {}
    for index, row in models:
        for column, what in table.counts.items():
            counted[index, column] = _count(what, row)
            on_cell(len(counted), len(models) * len(table.counts))
    return counted


def _count(what: str, row: Row) -> float:
    """Count "params" or "macs" of a network, or "params of HEAD" of a head on it."""
    quantity, _, head = what.partition(" of ")
    model, arguments = str(row.model), tuple(row.arguments.items())
    if head:
        levels = row.number("scales") if head == "dino" else None
        exact = _of_head(quantity, head, model.partition(".")[0], arguments, None if levels is None else int(levels))
    else:
        found = count_model(model, **row.arguments) if arguments else entry(model)
        exact = found.params if quantity == "params" else found.paper_macs
    return exact / _UNITS[quantity]


@cache
def _of_head(
    quantity: str, head: str, backbone: str, arguments: tuple[tuple[str, Any], ...], levels: int | None
) -> int:
    options: dict[str, Any] = {} if levels is None else {"num_levels": levels}
    options |= {"backbone_args": dict(arguments)} if arguments else {}
    with torch.device("meta"):
        network = (create_detector if head in _DETECTORS else create_segmenter)(head, backbone, **options)
    if quantity == "params":  # without the seconds that a pass takes
        return sum(p.numel() for p in network.parameters())
    count = count_detector(network) if head in _DETECTORS else count_segmenter(network, _SEGMENTED_SIZE)
    return count.paper_macs
