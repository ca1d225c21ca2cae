"""The picture of a run is drawn from its logs, whole or not at all."""

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


def test_looks_lie_between_the_epochs_they_belong_to():
    assert _epochs_of_steps(STEPS, EPOCHS) == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])


@pytest.mark.parametrize("epochs", [EPOCHS, EPOCHS[:1], [{**EPOCHS[0], "train_top1": 40.0}]])
def test_a_run_of_any_length_is_drawn(tmp_path, epochs):
    write(tmp_path / "steps.jsonl", STEPS)
    write(tmp_path / "metrics.jsonl", epochs)
    with Image.open(draw_curves(tmp_path)) as picture:
        assert picture.size == (1500, 960)
        colours = picture.convert("RGB").getcolors(1 << 20)
    assert {(0, 114, 178), (213, 94, 0)} <= {colour for _, colour in colours}  # both lines are there
    assert not list(tmp_path.glob(".*.part"))


def test_a_run_without_an_epoch_is_refused(tmp_path):
    write(tmp_path / "steps.jsonl", STEPS)
    with pytest.raises(FovealError, match="holds no finished epoch"):
        draw_curves(tmp_path)


def test_a_detectors_losses_and_both_average_precisions_are_drawn(tmp_path, monkeypatch):
    """Each part of the loss is a line with its name; of the metrics those of one kind share a panel."""
    drawn = {}
    monkeypatch.setattr("foveal.report.chart_training.save_whole", lambda figure, path: drawn.update(axes=figure.axes))
    write(tmp_path / "steps.jsonl", [{**step, "class": 1.0, "l1": 0.5} for step in STEPS])
    ap = {"val_box_ap": 30.0, "val_mask_ap": 25.0, "val_box_ap50": 60.0}
    write(tmp_path / "metrics.jsonl", [{"epoch": e, "step": 6 * e, "lr": 1e-3, **ap} for e in (1, 2)])
    draw_curves(tmp_path)
    losses, metrics = ({line.get_label(): list(line.get_ydata()) for line in one.lines} for one in drawn["axes"][:2])
    assert losses == {"class": [1.0] * 6, "l1": [0.5] * 6, "sum": [2 / u for u in range(2, 13, 2)]}
    assert metrics == {"box_ap": [30.0] * 2, "mask_ap": [25.0] * 2}
