"""A mask as COCO's annotations write it, to the pixel: polygons along the pixels' edges; runs where it has holes."""

from typing import Any

import numpy as np

Point = tuple[int, int]


def segmentation(mask: np.ndarray) -> Any:
    """COCO's ``segmentation`` of a mask (H, W) bool: a list of polygons [x1, y1, x2, y2, ...], one for each part.

    Polygons cannot tell a hole: a mask with one becomes an uncompressed run-length encoding.
    """
    loops = outlines(mask)
    if any(_signed_area(loop) < 0 for loop in loops):
        return runs(mask)
    return [[coordinate for point in loop for coordinate in point] for loop in loops]


def runs(mask: np.ndarray) -> dict[str, Any]:
    """Uncompressed run-length encoding: lengths of runs of 0 and 1 by turns, column by column, from 0 on."""
    pixels = mask.T.ravel()
    changes = np.flatnonzero(np.diff(pixels, prepend=False))
    return {"size": list(mask.shape), "counts": np.diff(changes, prepend=0, append=len(pixels)).tolist()}


def outlines(mask: np.ndarray) -> list[list[Point]]:
    """The corners (x, y) of all closed lines between inside and outside, clockwise around what is inside.

    Pixels that only touch at a corner are apart. A hole's line runs counterclockwise.
    """
    steps = _edges(mask)
    loops = []
    while steps:
        loops.append(_follow(next(iter(steps)), steps))
    return loops


def _follow(start: Point, steps: dict[Point, list[Point]]) -> list[Point]:
    """The corners of the line that begins at ``start``; its steps are taken out of ``steps``."""
    first = step = steps[start][0]
    corners, at = [start], start
    while True:
        steps[at].remove(step)
        if not steps[at]:
            del steps[at]
        at = (at[0] + step[0], at[1] + step[1])
        ahead, right = steps.get(at, []), (-step[1], step[0])
        if right not in ahead and at == start:
            return corners if step != first else corners[1:]
        turn = right if right in ahead else ahead[0]  # where pixels touch at a corner, around the same pixel
        if turn != step:
            corners.append(at)
        step = turn


def _edges(mask: np.ndarray) -> dict[Point, list[Point]]:
    """From each corner of pixels the steps along edges with the inside at their right and the outside at their left."""
    inside = np.pad(mask, 1)
    here = inside[1:-1, 1:-1]
    sides = (  # the neighbour beyond the edge, where the edge begins, its direction
        (inside[:-2, 1:-1], (0, 0), (1, 0)),
        (inside[1:-1, 2:], (1, 0), (0, 1)),
        (inside[2:, 1:-1], (1, 1), (-1, 0)),
        (inside[1:-1, :-2], (0, 1), (0, -1)),
    )
    steps: dict[Point, list[Point]] = {}
    for beyond, (dx, dy), direction in sides:
        for y, x in np.argwhere(here & ~beyond).tolist():
            steps.setdefault((x + dx, y + dy), []).append(direction)
    return steps


def _signed_area(loop: list[Point]) -> float:
    x, y = np.array(loop, dtype=float).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
