import xml.etree.ElementTree as ElementTree

import pytest

from foveal.report.page_curves import Series, line_chart, nice_ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (0, 2.3, [0, 1, 2, 3]),
        (12, 98, [0, 25, 50, 75, 100]),
        (97.1, 98.6, [97, 97.5, 98, 98.5, 99]),
        (0, 0.001, [0, 0.00025, 0.0005, 0.00075, 0.001]),
    ],
)
def test_ticks_are_round_and_enclose_the_data(low, high, expected):
    assert nice_ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0])
def test_ticks_of_a_constant_span_a_range(value):
    ticks = nice_ticks(value, value)
    assert ticks[0] <= value <= ticks[-1]
    assert len(ticks) >= 2


def points_of(figure: str) -> list[list[tuple[float, float]]]:
    lines = ElementTree.fromstring(figure).iter("polyline")
    return [[tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()] for line in lines]


def test_values_increase_upwards_and_epochs_to_the_right():
    figure = line_chart("Loss", [1, 2, 3], [Series("train", [3.0, 2.0, 1.0], "fovea")], floor=0)
    ((first, second, third),) = points_of(figure)
    assert first[0] < second[0] < third[0]
    assert first[1] < second[1] < third[1]  # y points downwards in SVG
    assert second[1] - first[1] == pytest.approx(third[1] - second[1], abs=0.11)


def test_single_epochs_and_gaps_can_be_drawn():
    figure = line_chart("Accuracy", [1], [Series("val", [50.0], "periphery")])
    assert len(points_of(figure)[0]) == 1
    figure = line_chart("Accuracy", [1, 2, 3], [Series("val", [None, 50.0, None], "periphery")])
    assert len(points_of(figure)[0]) == 1


def test_the_aria_label_gives_the_final_values():
    figure = line_chart("Loss", [1, 2], [Series("train", [2.0, 0.5], "fovea")])
    assert ElementTree.fromstring(figure).find("svg").attrib["aria-label"] == "Loss over epochs: train ends at 0.5."
