"""Places for the labels of a scatter chart, clear of each other and of all that is drawn; lengths are in points."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

_GAPS = (2.0, 5.0, 9.0, 14.0, 20.0, 27.0, 35.0)  # between a marker and its label
_STEPS = (0.0, 1.0, -1.0, 0.5, -0.5)  # of a label's centre, from the marker to where only corners would meet
_SWEEPS = 8  # over all labels; the last ones usually change nothing
_COVERED, _CONFUSING = 100.0, 10.0  # costs, in units of distance


@dataclass(frozen=True)
class Box:
    """A rectangle by its centre and size."""

    x: float
    y: float
    width: float
    height: float

    def overlap(self, other: Box) -> float:
        """Return the area that both cover."""
        wide, high = self._apart(other)
        return min(-wide, self.width, other.width) * min(-high, self.height, other.height) if wide < 0 > high else 0.0

    def distance(self, other: Box) -> float:
        """Return the distance between the edges; 0 if they touch or overlap."""
        wide, high = self._apart(other)
        return math.hypot(max(wide, 0.0), max(high, 0.0))

    def nearest(self, other: Box) -> tuple[float, float]:
        """Return the point of this rectangle that is nearest to the centre of another."""
        x, y = other.x - self.x, other.y - self.y
        wide, high = self.width / 2, self.height / 2
        return self.x + min(max(x, -wide), wide), self.y + min(max(y, -high), high)

    def _apart(self, other: Box) -> tuple[float, float]:
        wide = abs(self.x - other.x) - (self.width + other.width) / 2
        return wide, abs(self.y - other.y) - (self.height + other.height) / 2


def place_labels(
    markers: Sequence[Box], sizes: Sequence[tuple[float, float]], frame: Box, obstacles: Sequence[Box] = ()
) -> list[Box]:
    """Return a box for the label of every marker.

    Each label in turn takes the best place in view of all others, until none moves: inside the frame, on no label,
    marker or obstacle, nearer to its own marker than to another, and as near as possible. Earlier labels choose first.

    Args:
        markers: the markers.
        sizes: width and height of the label of each marker.
        frame: the area of the chart.
        obstacles: what else labels must not cover.
    """
    choices = [
        [(box, _cost(box, index, markers, frame, obstacles)) for box in _around(marker, size)]
        for index, (marker, size) in enumerate(zip(markers, sizes, strict=True))
    ]
    chosen: dict[int, Box] = {}
    for _ in range(_SWEEPS):
        before = dict(chosen)
        for index, choice in enumerate(choices):
            others = [box for other, box in chosen.items() if other != index]
            chosen[index] = min(choice, key=lambda one: one[1] + _covered(one[0], others))[0]
        if chosen == before:
            break
    return list(chosen.values())


def _around(marker: Box, size: tuple[float, float]) -> Iterator[Box]:
    """Return places around a marker: nearest first, at equal distance to the right first."""
    width, height = size
    for gap in _GAPS:
        across, up = (marker.width + width) / 2 + gap, (marker.height + height) / 2 + gap
        for step, side in product(_STEPS, (1, -1)):
            yield Box(marker.x + side * across, marker.y + step * up, width, height)
        for step, side in product(_STEPS, (1, -1)):
            yield Box(marker.x + step * across, marker.y + side * up, width, height)


def _cost(box: Box, index: int, markers: Sequence[Box], frame: Box, obstacles: Sequence[Box]) -> float:
    """Return what a place costs, whatever the places of the other labels."""
    own = box.distance(markers[index])
    rivals = [marker for other, marker in enumerate(markers) if other != index]
    outside = 1 - box.overlap(frame) / (box.width * box.height)
    confusing = sum(box.distance(marker) <= own for marker in rivals)
    return own + _CONFUSING * confusing + _COVERED * outside + _covered(box, [*rivals, *obstacles])


def _covered(box: Box, others: Sequence[Box]) -> float:
    """Return the cost of covering others: something for each, and more for more of it."""
    areas = [area for area in map(box.overlap, others) if area > 0]
    return _COVERED * (len(areas) + sum(areas) / (box.width * box.height))
