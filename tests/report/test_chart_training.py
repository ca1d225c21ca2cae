"""Training curves are drawn from the logs of a run and written atomically."""

import json

import pytest
from PIL import Image

from foveal.errors import FovealError
from foveal.report.chart_training import _epochs_of_steps, draw_curves

STEPS = [
    {"update": u, "epoch": 1 + (u - 1) // 6, "loss": 2 / u, "lr": 1e-3, "images_per_second": 100.0}
    for u in range(2, 13, 2)
]
EPOCHS = [{"epoch": e, "step": 6 * e, "val_loss": 1 / e, "val_top1": 50.0 * e, "lr": 1e-3} for e in (1, 2)]


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def lines_of(axes) -> dict[str, list[float]]:
    """The lines with a name; the mark of the best epoch has none."""
    return {line.get_label(): list(line.get_ydata()) for line in axes.lines if line.get_label()[0] != "_"}


def test_steps_are_placed_within_their_epochs():
    assert _epochs_of_steps(STEPS, EPOCHS) == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])


@pytest.mark.parametrize("epochs", [EPOCHS, EPOCHS[:1], [{**EPOCHS[0], "train_top1": 40.0}]])
def test_runs_of_any_length_are_drawn(tmp_path, epochs):
    write(tmp_path / "steps.jsonl", STEPS)
    write(tmp_path / "metrics.jsonl", epochs)
    with Image.open(draw_curves(tmp_path, "top1", 1)) as picture:
        assert picture.size == (1500, 990)
        colours = picture.convert("RGB").getcolors(1 << 20)
    assert {(0, 114, 178), (213, 94, 0)} <= {colour for _, colour in colours}  # both lines are drawn
    assert not list(tmp_path.glob(".*.part"))


def test_a_run_without_a_finished_epoch_is_rejected(tmp_path):
    write(tmp_path / "steps.jsonl", STEPS)
    with pytest.raises(FovealError, match="holds no finished epoch"):
        draw_curves(tmp_path, "box_ap", 2)


def test_detector_losses_and_both_average_precisions_are_drawn(tmp_path, monkeypatch):
    """Each loss term is a labelled line; metrics of the same kind share a panel."""
    drawn = {}
    monkeypatch.setattr("foveal.report.chart_training.save_whole", lambda figure, path: drawn.update(axes=figure.axes))
    write(tmp_path / "steps.jsonl", [{**step, "class": 1.0, "l1": 0.5} for step in STEPS])
    ap = {"val_box_ap": 30.0, "val_mask_ap": 25.0, "val_box_ap50": 60.0}
    write(tmp_path / "metrics.jsonl", [{"epoch": e, "step": 6 * e, "lr": 1e-3, **ap} for e in (1, 2)])
    draw_curves(tmp_path, "box_ap", 2)
    losses, metrics = (lines_of(one) for one in drawn["axes"][:2])
    assert losses == {"class loss": [1.0] * 6, "box loss": [0.5] * 6, "sum": [2 / u for u in range(2, 13, 2)]}
    assert metrics == {"box AP": [30.0] * 2, "mask AP": [25.0] * 2}
    assert drawn["axes"][1].get_ylim()[0] == 0


def test_every_panel_has_a_title_in_words_a_named_axis_of_whole_epochs_and_marks_the_best(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr("foveal.report.chart_training.save_whole", lambda figure, path: drawn.update(figure=figure))
    write(tmp_path / "steps.jsonl", [{**step, "lr": 0.0003 * step["update"]} for step in STEPS])
    write(tmp_path / "metrics.jsonl", EPOCHS)
    draw_curves(tmp_path, "top1", 2)
    figure = drawn["figure"]
    figure.draw_without_rendering()
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["Loss", "Accuracy, %", "Learning rate", "Speed, images per second"]
    for axes in figure.axes:
        assert axes.get_xlabel() == "epoch"
        assert all(label.get_text().isdecimal() for label in axes.get_xticklabels())
        (mark,) = [line for line in axes.lines if list(line.get_xdata()) == [2, 2]]
        assert mark.get_linestyle() == "--"
    rates = [label.get_text() for label in figure.axes[2].get_yticklabels()]
    assert {"0.0010", "0.0020", "0.0030"} <= set(rates)
    assert figure.get_supxlabel() == "Dashed: best epoch, 2."


def test_a_loss_of_one_part_is_drawn_once(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr("foveal.report.chart_training.save_whole", lambda figure, path: drawn.update(axes=figure.axes))
    write(tmp_path / "steps.jsonl", [{**step, "decode": step["loss"]} for step in STEPS])
    write(tmp_path / "metrics.jsonl", [{"epoch": 1, "step": 6, "lr": 1e-3, "val_miou": 30.0}])
    draw_curves(tmp_path, "miou", 1)
    assert list(lines_of(drawn["axes"][0])) == ["training"]


def test_the_chart_says_why_the_training_loss_is_higher(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr("foveal.report.chart_training.save_whole", lambda figure, path: drawn.update(figure=figure))
    write(tmp_path / "steps.jsonl", STEPS)
    write(tmp_path / "metrics.jsonl", [{**record, "train_loss": 2.0} for record in EPOCHS])
    (tmp_path / "run.json").write_text(json.dumps({"card": {"drop_path": 0.2, "augmentation": {}}}))
    draw_curves(tmp_path, "top1", 2)
    said = drawn["figure"].get_supxlabel()
    assert "lies above the validation loss, since in training only blocks are left out" in said
