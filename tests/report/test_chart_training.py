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


def test_steps_are_placed_within_their_epochs():
    assert _epochs_of_steps(STEPS, EPOCHS) == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])


@pytest.mark.parametrize("epochs", [EPOCHS, EPOCHS[:1], [{**EPOCHS[0], "train_top1": 40.0}]])
def test_runs_of_any_length_are_drawn(tmp_path, epochs):
    write(tmp_path / "steps.jsonl", STEPS)
    write(tmp_path / "metrics.jsonl", epochs)
    with Image.open(draw_curves(tmp_path)) as picture:
        assert picture.size == (1500, 960)
        colours = picture.convert("RGB").getcolors(1 << 20)
    assert {(0, 114, 178), (213, 94, 0)} <= {colour for _, colour in colours}  # both lines are drawn
    assert not list(tmp_path.glob(".*.part"))


def test_a_run_without_a_finished_epoch_is_rejected(tmp_path):
    write(tmp_path / "steps.jsonl", STEPS)
    with pytest.raises(FovealError, match="holds no finished epoch"):
        draw_curves(tmp_path)


def test_detector_losses_and_both_average_precisions_are_drawn(tmp_path, monkeypatch):
    """Each loss term is a labelled line; metrics of the same kind share a panel."""
    drawn = {}
    monkeypatch.setattr("foveal.report.chart_training.save_whole", lambda figure, path: drawn.update(axes=figure.axes))
    write(tmp_path / "steps.jsonl", [{**step, "class": 1.0, "l1": 0.5} for step in STEPS])
    ap = {"val_box_ap": 30.0, "val_mask_ap": 25.0, "val_box_ap50": 60.0}
    write(tmp_path / "metrics.jsonl", [{"epoch": e, "step": 6 * e, "lr": 1e-3, **ap} for e in (1, 2)])
    draw_curves(tmp_path)
    losses, metrics = ({line.get_label(): list(line.get_ydata()) for line in one.lines} for one in drawn["axes"][:2])
    assert losses == {"class": [1.0] * 6, "l1": [0.5] * 6, "sum": [2 / u for u in range(2, 13, 2)]}
    assert metrics == {"box_ap": [30.0] * 2, "mask_ap": [25.0] * 2}
