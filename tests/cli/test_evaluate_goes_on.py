"""``foveal evaluate`` that was stopped: the same command goes on with what is finished, and says what is kept."""

import json

import pytest
from rich.console import Console

from foveal.cli import total_progress as shown
from foveal.tasks import finished
from foveal.tasks.classification import evaluate as classification
from foveal.tasks.dense.shapes import write_shapes
from support.coco_folders import write_objects

RECIPE = "digits.transnext_atto"


@pytest.fixture(autouse=True)
def kept_at_once(monkeypatch):
    """After every batch, whatever it takes."""
    monkeypatch.setattr(finished, "EVERY", 0)
    monkeypatch.setattr(finished, "PATIENCE", 0)


@pytest.fixture
def stop(monkeypatch):
    """``stop(module, name, after)`` makes the function of that name raise KeyboardInterrupt after ``after`` calls."""

    def prepare(module, name, after):
        whole, calls = getattr(module, name), []

        def counted(*args, **kwargs):
            if after is not None and len(calls) == after:
                raise KeyboardInterrupt
            calls.append(args)
            return whole(*args, **kwargs)

        monkeypatch.setattr(module, name, counted)
        return calls

    return prepare


def stable(out: str) -> dict:
    """The document without speeds."""
    document = json.loads(out)
    results = document["results"] if isinstance(document["results"], list) else [document["results"]]
    for one in results:
        one.pop("images_per_second")
    return document


def test_sizes_that_are_finished_are_not_evaluated_again(foveal, colours, trained, tmp_path, stop, monkeypatch):
    words = ["--checkpoint", trained, "--data", colours, "--workers", 0, "--size", 32, 48, 64, "--batch-size", 5]
    whole = foveal("evaluate", *words, "--json")
    out = tmp_path / "out"
    with monkeypatch.context():
        stop(classification, "batch_sums", 4)  # of three batches at each size: in the middle of the second
        said = foveal("evaluate", *words, "--out", out)
        assert said.code == 130
        assert said.is_one_sentence(f"Stopped: the same command goes on with what {out} holds")
    monkeypatch.undo()
    calls = stop(classification, "batch_sums", None)
    said = foveal("evaluate", *words, "--out", out, "--json")
    assert said.code == 0, said.error
    assert len(calls) == 9 - 4
    assert stable(said.out) == stable(whole.out)
    assert said.error.splitlines()[0].startswith("foveal: 1 part of this evaluation had been finished before")


def test_another_checkpoint_or_other_images_start_anew(foveal, colours, trained, tmp_path, stop):
    words = ["--data", colours, "--workers", 0, "--out", tmp_path / "out"]
    assert foveal("evaluate", "--checkpoint", trained, *words).code == 0
    calls = stop(classification, "batch_sums", None)
    assert foveal("evaluate", "--checkpoint", trained, *words).code == 0
    assert calls == []
    other = tmp_path / "other.pt"
    other.write_bytes((trained.parent / "last.pt").read_bytes())
    assert foveal("evaluate", "--checkpoint", other, *words).code == 0
    assert len(calls) == 1
    (colours / "val" / "red" / "0.png").write_bytes((colours / "val" / "red" / "1.png").read_bytes())
    assert foveal("evaluate", "--checkpoint", trained, *words).code == 0
    assert len(calls) == 2


def test_without_out_a_stop_says_that_nothing_is_kept(foveal, colours, trained, stop):
    stop(classification, "batch_sums", 0)
    said = foveal("evaluate", "--checkpoint", trained, "--data", colours, "--workers", 0)
    assert said.code == 130
    assert said.is_one_sentence("Stopped: without --out nothing is kept")


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_a_detector_and_a_segmenter_go_on_with_the_next_image(foveal, tmp_path, task, monkeypatch):
    quick = ["--epochs", 1, "--batch-size", 2, "--workers", 0, "--size", 64]
    if task == "detection":
        data, recipe = write_objects(tmp_path / "data"), "shapes.mask_rcnn_transnext_atto"
    else:
        data, recipe = write_shapes(tmp_path / "data", train=4, val=3, side=64), "shapes.semantic_fpn_transxnet_atto"
    said = foveal("train", recipe, "--data", data, "--out", tmp_path / "run", *quick)
    assert said.code == 0, said.error
    words = ["evaluate", "--checkpoint", tmp_path / "run" / "best.pt", "--data", data, "--workers", 0, "--json"]
    whole = foveal(*words)
    out, offer, images = tmp_path / "out", finished.Middle.offer, []

    def stopped(self, *how):
        images.append(how)
        offer(self, *how)
        if len(images) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(finished.Middle, "offer", stopped)
    assert foveal(*words, "--out", out).code == 130
    assert len(list((out / "finished").iterdir())) == 1
    said = foveal(*words, "--out", out)
    assert said.code == 0, said.error
    assert len(images) == 3
    assert stable(said.out) == stable(whole.out)
    assert not (out / "finished").exists()


def test_the_bar_shows_the_part_and_what_is_left_in_total(foveal, colours, trained, monkeypatch):
    updates = []

    class Bar(shown.Progress):
        def update(self, task, **what):
            updates.append(what)
            super().update(task, **what)

    monkeypatch.setattr(shown, "Progress", Bar)
    monkeypatch.setattr(shown, "Console", lambda **how: Console(force_terminal=True, width=80, **how))
    words = ["--checkpoint", trained, "--data", colours, "--workers", 0, "--size", 32, 64, "--batch-size", 6]
    said = foveal("evaluate", *words)
    assert said.code == 0, said.error
    assert "left in total" in said.error
    assert {one["description"] for one in updates} == {
        "1 of 2: val, 32 px",
        "2 of 2: val, 64 px",
    }
    shares = [one["completed"] / one["total"] for one in updates]
    assert shares == pytest.approx([0, 0.1, 0.2, 0.2, 0.6, 1])  # four times the pixels take four times as long
