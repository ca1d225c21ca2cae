"""Networks beside their peers at equal accuracy: speedups per round, and the points of the chart."""

import io
from itertools import combinations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from rich.console import Console

from foveal.bench import plot_accuracy
from foveal.bench.measure import Spread
from foveal.bench.peers import NETWORKS, peers_of
from foveal.bench.plot_accuracy import draw_accuracy, points
from foveal.bench.results import Result, comparisons
from foveal.bench.settings import Setting
from foveal.bench.subjects import ModelSubject
from foveal.bench.tables import comparison_table


def timed(model, *seconds, form="eager", options=(), **setting):
    subject = ModelSubject(model, form, options)
    return Result(subject, Setting(**setting), len(seconds), Spread.of(seconds), None, None, 1, None, None, seconds)


RUN = [
    timed("transxnet_t", 2.0, 4.0, 2.0),
    timed("transxnet_t", 1.0, 1.0, 2.0, form="optimised"),
    timed("transxnet_t", 0.1, 0.1, 0.1, options=(("num_classes", 0),)),
    timed("convnext_tiny", 4.0, 4.0, 8.0),
    timed("swin_tiny_patch4_window7_224", 1.0, 1.0, 1.0),
    timed("pvt_v2_b2", 9.0, 9.0, 9.0, form="compiled"),  # a form that neither of ours is compared with
    timed("convnext_base", 9.0, 9.0, 9.0),  # 83.8: not a peer of a network with 81.6
    timed("resnet50", 1.0, 1.0, 1.0),
]


def test_a_network_is_compared_with_its_peers_round_by_round():
    found = [(p.network.subject.form, p.peer.subject.model, p.speedup.p50) for p in comparisons(RUN)]
    assert found == [
        ("eager", "swin_tiny_patch4_window7_224", 0.5),  # median of 1/2, 1/4, 1/2; the fastest peer is first
        ("eager", "convnext_tiny", 2.0),  # of 4/2, 4/4, 8/2
        ("optimised", "swin_tiny_patch4_window7_224", 1.0),  # of 1/1, 1/1, 1/2
        ("optimised", "convnext_tiny", 4.0),  # of 4/1, 4/1, 8/2
    ]


def test_a_compiled_network_is_compared_with_compiled_peers():
    (pair,) = comparisons([timed("transxnet_t", 3.0, 3.0, 3.0, form="compiled"), *RUN[3:]])
    assert (pair.peer.subject.model, pair.speedup.p50) == ("pvt_v2_b2", 3.0)


def test_networks_of_different_runs_are_not_compared():
    assert comparisons([timed("transxnet_t", 1.0, 1.0, batch=1), timed("convnext_tiny", 1.0, 1.0)]) == []


def test_the_table_shows_both_accuracies_and_fits_80_columns():
    run = [timed(m, 10.0, 20.0) for n in NETWORKS for m in dict.fromkeys((n, *peers_of(n)))]
    own = [timed(n, 10.0, 20.0, form="optimised") for n in NETWORKS]
    text = io.StringIO()
    Console(file=text, width=120).print(comparison_table(comparisons([*run, *own])))
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    assert max(map(len, lines)) <= 80
    assert any(line.split()[:5] == ["transxnet_s", "eager", "83.8", "convnext_base", "83.8"] for line in lines)
    assert any(line.split()[:2] == ["maxvit_tiny_tf_224", "83.62"] for line in lines)


def test_a_point_is_a_network_in_its_fastest_form_relative_to_convnext():
    found, relative = points(RUN)
    assert relative
    assert {p.accuracy.label: (p.accuracy.top1, p.form, p.speed) for p in found} == {
        "TransXNet-T": (81.6, "optimised", 4.0),
        "ConvNeXt-T": (82.1, "eager", 1.0),
        "Swin-T": (81.2, "eager", 4.0),
        "PVTv2-B2": (82.0, "compiled", pytest.approx(4 / 9)),
        "ConvNeXt-B": (83.8, "eager", pytest.approx(4 / 9)),
    }
    assert [p.accuracy.label for p in found if p.ours] == ["TransXNet-T"]


def test_without_convnext_speeds_are_images_per_second():
    ((point,), relative) = points([timed("transxnet_t", 2.0, 2.0, batch=8)])
    assert (relative, point.speed) == (False, 4.0)


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draw results, and return the figure."""

    def draw(results):
        saved = []
        monkeypatch.setattr(plot_accuracy, "save_whole", lambda figure, path: saved.append(figure))
        draw_accuracy(tmp_path / "a.png", results, "note")
        return saved[0]

    return draw


def names(figure):
    return [text for axes in figure.axes for text in axes.texts if text.get_text()]


def test_every_network_is_named_and_no_names_overlap(drawn):
    models = dict.fromkeys(model for name in NETWORKS for model in (name, *peers_of(name)))
    seconds = [1.15 ** (place * 7 % len(models) - place % 3) for place in range(len(models))]
    figure = drawn([timed(model, s, s) for model, s in zip(models, seconds, strict=True)])
    assert len(names(figure)) == len(models) == 40
    FigureCanvasAgg(figure).draw()
    boxes = [text.get_window_extent() for text in names(figure)]
    assert [(a, b) for a, b in combinations(boxes, 2) if a.overlaps(b)] == []


def test_ours_are_filled_and_peers_hollow(drawn):
    (axes,) = drawn(RUN).axes
    shapes = {line.get_marker(): line.get_markerfacecolor() == "white" for line in axes.lines if len(line.get_xdata())}
    assert sorted(shapes.values()) == [False, True, True, True]  # TransXNet; ConvNeXt twice, Swin, PVTv2


def test_every_setting_has_a_panel_that_says_which_size_the_accuracies_are_for(drawn):
    other = [timed(model, 1.0, 1.0, height=256, width=256) for model in ("transxnet_t", "convnext_tiny")]
    first, second = drawn([*RUN, *other]).axes
    assert "224x224" in first.get_title(loc="left")
    assert "not for this size" not in first.get_title(loc="left")
    assert "256x256" in second.get_title(loc="left")
    assert "the accuracies are for 224 pixels, not for this size" in second.get_title(loc="left")
