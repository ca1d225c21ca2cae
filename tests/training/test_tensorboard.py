"""TensorBoard events match the logs, and a resumed run replaces the events of repeated updates."""

import json

import pytest

from foveal.training import fit
from foveal.training.listener import Listener, Listeners
from foveal.training.progress import TensorBoard


def events(out):
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = loading.EventAccumulator(str(out / "tensorboard"), size_guidance={"scalars": 0})
    found.Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


class Leave(Listener):
    def saved(self, update, path):
        if update == 10:
            raise KeyboardInterrupt


def test_scalars_match_the_logs_even_after_resuming(points, config, change, out):
    config = change(config, save_steps=4)
    with pytest.raises(KeyboardInterrupt):
        fit(points(), config, out, listener=Listeners([TensorBoard(out), Leave()]))
    fit(points(), config, out, listener=TensorBoard(out), resume=out / "last.pt")
    steps = [json.loads(line) for line in (out / "steps.jsonl").read_text().splitlines()]
    epochs = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    shown = events(out)
    assert shown["train/loss"] == [(line["update"], pytest.approx(line["loss"])) for line in steps]
    assert shown["lr"] == [(line["update"], pytest.approx(line["lr"])) for line in steps]
    assert shown["val/top1"] == [(line["step"], pytest.approx(line["val_top1"])) for line in epochs]
    assert {"train/top1", "speed/images_per_second", "speed/data_wait_seconds", "memory/peak_gib"} <= shown.keys()
