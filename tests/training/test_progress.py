"""Progress output fits the terminal and shows the important information."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from foveal.training.listener import RunInfo, StepReport, over_classes
from foveal.training.progress import PlainLines, ProgressBar, listener_for

INFO = RunInfo(
    first_epoch=1, last_epoch=310, steps_per_epoch=1251, batch_size=1024, accumulation=1, processes=8, device="cuda",
    parameters=28_000_000, train_size=1_281_167,
)  # fmt: skip
LOOK = StepReport(
    epoch=300, step=1250, update=375_299, loss=2.71828, stats={"top1": 61.8}, lr=1e-3, images_per_second=12345.6,
    data_wait_seconds=0.001, memory_bytes=2**34,
)  # fmt: skip
RECORD = {
    "epoch": 300, "step": 375_300, "lr": 1e-3, "train_loss": 2.71828, "train_top1": 61.8, "images_per_second": 12345.6,
    "val_top1": 83.9512, "val_top5": 96.8123, "val_loss": 0.71236,
}  # fmt: skip


def play(listener):
    listener.begin(INFO)
    listener.step(LOOK)
    listener.evaluating(300, 390, 391)
    listener.epoch(RECORD, True)
    listener.close()


def test_a_pipe_gets_plain_lines():
    stream = io.StringIO()
    listener = listener_for(stream)
    assert isinstance(listener, PlainLines)
    play(listener)
    opening, epoch = stream.getvalue().splitlines()
    assert "28.00 M parameters" in opening
    assert "1,024 images per update" in opening
    assert epoch.startswith("epoch 300/310  loss 2.72  val loss 0.712, top-1 83.95 %, top-5 96.81 %  12346 img/s *")
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_the_bar_shows_loss_accuracy_speed_and_time_left_within_the_width(width):
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    bar = ProgressBar(console)
    bar.begin(INFO)
    bar.speed.started -= 31 * 3600
    bar.step(LOOK)
    shown = Console(file=io.StringIO(), width=width)
    shown.print(bar.bar.get_renderable())
    bar.close()
    lines = shown.file.getvalue().splitlines()
    assert len(lines) == 1
    assert len(lines[0]) <= width
    assert re.search(r"epoch 300/310 .* 34\d\d img/s 1:0\d:\d\d left loss 2\.72 top-1 61\.8", lines[0])


def test_many_losses_do_not_push_speed_and_time_out_of_the_bar():
    losses = {"objectness": 0.04812, "rpn_box_reg": 0.0234, "classifier": 0.2468, "box_reg": 0.1357, "mask": 0.3579}
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    bar = ProgressBar(console)
    bar.begin(INFO)
    bar.speed.started -= 31 * 3600
    bar.step(replace(LOOK, stats=losses))
    shown = Console(file=io.StringIO(), width=80)
    shown.print(bar.bar.get_renderable())
    bar.close()
    assert re.search(r"34\d\d img/s 1:0\d:\d\d left loss 2\.72", shown.file.getvalue())
    assert "objectness loss 0.0481, proposal box loss 0.0234, " in bar.bar.tasks[0].fields["facts"]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_path_in_a_notice_is_never_broken(terminal):
    path = "/".join(["a folder of photographs [new]"] * 5)
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=80, color_system=None)
    listener = ProgressBar(console) if terminal else PlainLines(console)
    listener.begin(replace(INFO, notices=(f"{path} has no image.",)))
    listener.notice(f"{path} is left out.")
    listener.close()
    assert stream.getvalue().count(path) == 2


def test_the_line_of_an_epoch_fits_80_columns():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, color_system=None)
    play(ProgressBar(console))
    line = next(line for line in stream.getvalue().splitlines() if "top-1 83.95 %" in line)
    assert len(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)) <= 80


def test_plain_output_announces_saves_within_an_epoch_and_where_a_run_resumes():
    stream = io.StringIO()
    listener = listener_for(stream)
    listener.begin(replace(INFO, first_epoch=3, steps_done=40))
    listener.saved(2 * 1251 + 50, Path("last.pt"))
    listener.saved(3 * 1251, Path("last.pt"))  # covered by the line of the epoch
    opening, saved = stream.getvalue().splitlines()
    assert opening.endswith("resuming after update 40 of epoch 3")
    assert "310 epochs of 1,251 updates" in opening  # those of the whole run
    assert saved == "saved at update 50/1251 of epoch 3"


def test_the_time_left_is_estimated_from_the_resumed_position():
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    bar = ProgressBar(console)
    bar.begin(replace(INFO, first_epoch=310, steps_done=1001))  # 250 updates remain
    bar.speed.started -= 100.0
    bar.step(replace(LOOK, epoch=310, step=1126))  # half of them took 100 s
    facts = bar.bar.tasks[0].fields["facts"]
    bar.close()
    assert "1:40 left" in facts
    assert re.search(r"12[78]\d img/s", facts)


@pytest.mark.parametrize(
    ("scored", "exemplified", "said"),
    [
        (3, 3, ""),
        (2, 2, " over 2 of 3 classes"),
        (3, 2, " over 3 of 3 classes (1 without an example)"),
        (2, 1, " over 2 of 3 classes (1 without an example)"),
        (2, None, " over 2 of 3 classes"),
    ],
)
def test_a_headline_says_over_which_classes_it_is(scored, exemplified, said):
    record = {"val_scored_classes": scored, "val_classes": 3}
    known = {} if exemplified is None else {"val_classes_with_examples": exemplified}
    assert over_classes({**record, **known}) == said
    assert over_classes({"val_top1": 90.0}) == ""


def test_counts_of_classes_are_no_metrics_of_an_epochs_line():
    stream = io.StringIO()
    listener = listener_for(stream)
    listener.begin(INFO)
    listener.epoch({**RECORD, "val_scored_classes": 3, "val_classes": 3, "val_classes_with_examples": 2}, False)
    listener.close()
    assert "top-5 96.81 % over 3 of 3 classes (1 without an example)  12346 img/s" in stream.getvalue()
