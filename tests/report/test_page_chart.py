"""Charts of a page: round ticks that people read, named axes, and a marked value."""

import xml.etree.ElementTree as ElementTree

import pytest

from foveal.report.page_chart import Axis, Mark, Series, line_chart, nice_ticks, tick_labels, whole_ticks

EPOCHS = Axis("epoch", [1, 2, 3])


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


@pytest.mark.parametrize(
    ("ticks", "expected"),
    [
        ([0, 0.001, 0.002], ["0", "0.001", "0.002"]),
        ([0, 0.00025, 0.0005], ["0", "0.00025", "0.00050"]),
        ([0, 2e-6, 4e-6], ["0", "0.000002", "0.000004"]),
        ([97, 97.5, 98], ["97.0", "97.5", "98.0"]),
        ([0, 1000, 2000], ["0", "1,000", "2,000"]),
        ([-1, 0, 1], ["-1", "0", "1"]),
    ],
)
def test_ticks_are_written_in_full_with_as_many_decimals_as_they_need(ticks, expected):
    assert tick_labels(ticks) == expected


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [([1], [1]), ([1, 2, 3], [1, 2, 3]), ([*range(1, 13)], [1, 5, 10, 12]), ([*range(1, 301)], [1, 100, 200, 300])],
)
def test_epochs_are_whole_numbers_with_the_first_and_the_last(epochs, expected):
    found = whole_ticks(epochs)
    assert (found[0], found[-1]) == (expected[0], expected[-1])
    assert all(isinstance(epoch, int) for epoch in found)
    assert set(found) <= set(epochs)
    assert len(found) <= 7


def drawing(figure: str) -> ElementTree.Element:
    return ElementTree.fromstring(figure).find("svg")


def points_of(figure: str) -> list[list[tuple[float, float]]]:
    lines = drawing(figure).iter("polyline")
    return [[tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()] for line in lines]


def test_values_increase_upwards_and_epochs_to_the_right():
    figure = line_chart("Loss", [1, 2, 3], [Series("train", [3.0, 2.0, 1.0], "fovea")], EPOCHS, floor=0)
    ((first, second, third),) = points_of(figure)
    assert first[0] < second[0] < third[0]
    assert first[1] < second[1] < third[1]  # y points downwards in SVG
    assert second[1] - first[1] == pytest.approx(third[1] - second[1], abs=0.11)


def test_the_axis_is_named_and_its_ticks_are_written():
    figure = line_chart("Loss", [1, 2, 3], [Series("train", [3.0, 2.0, 1.0], "fovea")], EPOCHS, floor=0)
    written = [text.text for text in drawing(figure).iter("text")]
    assert written == ["0", "1", "2", "3", "1", "2", "3", "epoch"]


def test_a_mark_stands_at_its_value_with_a_dot_on_every_line():
    lines = [Series("training", [3.0, 2.0, 1.0], "fovea"), Series("validation", [3.0, 1.5, 2.0], "periphery")]
    figure = line_chart("Loss", [1, 2, 3], lines, EPOCHS, floor=0, mark=Mark(2, "best: epoch 2"))
    (mark,) = [group for group in drawing(figure).iter("g") if group.get("class") == "mark"]
    assert [text.text for text in mark.iter("text")] == ["best: epoch 2"]
    x = float(mark.find("line").attrib["x1"])
    dots = [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in drawing(figure).iter("circle")]
    assert dots == [points[1] for points in points_of(figure)]
    assert {at for at, _ in dots} == {x}


def test_the_legend_has_the_values_at_the_mark_or_the_last_ones():
    lines = [Series("validation", [3.0, 1.5, 2.0], "periphery")]
    marked = ElementTree.fromstring(line_chart("Loss", [1, 2, 3], lines, EPOCHS, mark=Mark(2, "best")))
    last = ElementTree.fromstring(line_chart("Loss", [1, 2, 3], lines, EPOCHS))
    assert marked.find("p").find("span").text == "validation 1.5"
    assert last.find("p").find("span").text == "validation 2"


def test_single_epochs_and_gaps_can_be_drawn():
    figure = line_chart("Accuracy", [1], [Series("val", [50.0], "periphery")], Axis("epoch", [1]))
    assert len(points_of(figure)[0]) == 1
    figure = line_chart("Accuracy", [1, 2, 3], [Series("val", [None, 50.0, None], "periphery")], EPOCHS)
    assert len(points_of(figure)[0]) == 1


def test_the_aria_label_gives_the_values():
    series = [Series("train", [2.0, 0.5], "fovea")]
    figure = line_chart("Loss", [1, 2], series, Axis("epoch", [1, 2]))
    assert drawing(figure).attrib["aria-label"] == "Loss by epoch: train ends at 0.5."
    figure = line_chart("Loss", [1, 2], series, Axis("epoch", [1, 2]), mark=Mark(1, "best"))
    assert drawing(figure).attrib["aria-label"] == "Loss by epoch: train is 2; marked: epoch 1, best."
