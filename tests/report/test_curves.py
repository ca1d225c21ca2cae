"""The picture of a run is drawn from its logs, whole or not at all."""

import json

import pytest
from PIL import Image

from foveal.errors import FovealError
from foveal.report.curves import _epoch_places, draw_curves

STEPS = [
    {"update": u, "epoch": 1 + (u - 1) // 6, "loss": 2 / u, "lr": 1e-3, "images_per_second": 100.0}
    for u in range(2, 13, 2)
]
EPOCHS = [{"epoch": e, "step": 6 * e, "val_loss": 1 / e, "val_top1": 50.0 * e, "lr": 1e-3} for e in (1, 2)]


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_looks_lie_between_the_epochs_they_belong_to():
    assert _epoch_places(STEPS, EPOCHS) == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])


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
