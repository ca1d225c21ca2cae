"""The chart of an ablation shows every seed, and each row's mean and deviation in the paper's order."""

import pytest
from matplotlib.collections import PathCollection
from PIL import Image

from foveal.ablation import Result, TableRun, summarise
from foveal.errors import FovealError
from foveal.report.chart_ablation import draw_ablation


def summary(*tops, seeds=2):
    plan = TableRun.create("transxnet.attention_ratio", seeds=seeds)
    return summarise(plan, [Result(run.row, run.seed, top, top, 1, 8, 1.0) for run, top in zip(plan.runs, tops)])


def test_seeds_means_and_rows_are_where_they_belong(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr("foveal.report.chart_ablation.save_whole", lambda figure, _: drawn.update(axes=figure.axes[0]))
    draw_ablation(summary(96.0, 98.0, 97.0, 97.0, 98.5, 97.5), tmp_path)
    axes = drawn["axes"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0.25", "0.5", "0.75"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first row is on top
    circles = [drawn for drawn in axes.collections if isinstance(drawn, PathCollection)]
    seeds = [[float(x) for x, _ in one.get_offsets()] for one in circles]
    assert seeds == [[96.0, 97.0], [98.0, 98.5], [97.0, 97.5]]  # in the order of the seeds
    means = [float(bar.lines[0].get_xdata()[0]) for bar in axes.containers]
    assert means == [96.5, 98.25, 97.25]
    assert axes.get_xlabel() == "top-1 after 6 epochs, in percent"
    assert (
        axes.get_title("left")
        == "Attention's share of the channels\nTransXNet, table IX, trained on scikit-learn's digits"
    )


@pytest.mark.parametrize("tops", [(96.0,), (96.0, 98.0, 97.0), (96.0, 98.0, 97.0, 97.0, 98.5, 97.5)])
def test_unfinished_tables_are_drawn_whole(tmp_path, tops):
    with Image.open(draw_ablation(summary(*tops), tmp_path)) as picture:
        assert picture.width == 1200
    assert [path.name for path in tmp_path.iterdir()] == ["ablation.png"]


def test_a_table_without_a_finished_run_is_rejected(tmp_path):
    with pytest.raises(FovealError, match="No run has ended"):
        draw_ablation(summary(), tmp_path)
