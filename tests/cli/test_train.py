"""``foveal train`` on the command line: the files it writes and its errors for bad inputs."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from foveal.tasks.recipes import list_ablations, list_recipes
from foveal.training.checkpoint import read_checkpoint
from foveal.training.journal import BROKEN

RECIPE = "digits.transnext_atto"


def test_the_list_as_json_names_every_recipe(foveal):
    said = foveal("train", "--list", "--json")
    recipes = [recipe.name for recipe in (*list_recipes(), *list_ablations())]
    assert [entry["name"] for entry in json.loads(said.out)] == [
        *recipes,
        "photos.MODEL",
        "finetune.MODEL",
        "finetune.HEAD_MODEL",
    ]


def test_the_list_shows_every_recipe(foveal):
    said = foveal("train", "--list")
    assert said.code == 0
    for name in ("imagenet.transnext_base_384", "imagenet.transxnet_s", RECIPE, "ablation.TABLE.ROW", "photos.MODEL"):
        assert f"\n{name} " in "\n" + said.out


def test_training_on_a_folder_writes_a_run_and_prints_its_path(foveal, colours, quick, tmp_path):
    out = tmp_path / "run"
    said = foveal("train", RECIPE, "--data", colours, "--out", out, *quick)
    assert said.code == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "best.pt", "curves.png", "last.pt", "metrics.jsonl", "report.html", "run.json", "run.toml", "steps.jsonl",
    ]  # fmt: skip
    assert str(out / "best.pt") in said.out
    assert "epoch 4/4" in said.error
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 4


def test_a_run_says_which_tensors_it_started_from(foveal, colours, quick, trained, tmp_path):
    """The checkpoint knows three classes; without the red ones, there are two."""
    for split in ("train", "val"):
        shutil.rmtree(colours / split / "red")
    words = ["train", RECIPE, "--data", colours, "--checkpoint", trained, "--out", tmp_path / "run", *quick]
    said = foveal(*words)
    assert said.code == 0
    start = json.loads((tmp_path / "run" / "run.json").read_text())["start"]
    names = read_checkpoint(trained)["model"].keys()
    assert (start["source"], start["new"]) == (str(trained), ["head.fc.weight", "head.fc.bias"])
    assert set(start["loaded"]) == names - set(start["new"])
    assert start["left_out"] == 2
    assert (
        f"foveal: {len(names) - 2} tensors were loaded from {trained}, head.fc.weight, head.fc.bias began anew and "
        "2 of its tensors were left out.\n"
    ) in said.error
    assert "loaded from" not in foveal(*words, "--resume").error


def test_a_run_from_weights_for_its_classes_keeps_the_classifier(foveal, colours, quick, trained, tmp_path):
    words = ["train", RECIPE, "--data", colours, "--checkpoint", trained, "--out", tmp_path / "run", *quick]
    said = foveal(*words)
    assert re.search(rf"^foveal: \d+ tensors were loaded from {trained}\.$", said.error, re.MULTILINE)


def test_the_beginning_of_a_run_says_what_was_fitted_to_its_length(foveal, colours, tmp_path):
    """24 images in batches of 16 are two updates; TransXNet's average of weights is published for 375,300."""
    words = ["--epochs", "2", "--batch-size", "16", "--workers", "0", "--model", "test_convnext", "--size", "32"]
    out = tmp_path / "run"
    said = foveal("train", "imagenet.transxnet_t", "--data", colours, "--out", out, "--precision", "fp32", *words)
    assert said.code == 0, said.error
    notices = json.loads((out / "run.json").read_text())["notices"]
    assert len(notices) == 2
    assert notices[0].startswith("The average of weights decays by 0.5 per update instead of 0.999")
    assert notices[1].startswith("Each epoch leaves out 8 of the 24 images")
    assert all(notice in said.error for notice in notices)


def test_json_is_the_only_output(foveal, colours, quick, tmp_path):
    said = foveal("train", RECIPE, "--data", colours, "--out", tmp_path / "run", *quick, "--json")
    document = json.loads(said.out)
    assert document["best_path"] == str(tmp_path / "run" / "best.pt")
    assert len(document["history"]) == 4


def test_the_run_folder_is_named_after_the_recipe(foveal, colours, quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert foveal("train", RECIPE, "--data", colours, *quick, "--epochs", "1").code == 0
    assert (tmp_path / "runs" / RECIPE / "last.pt").exists()


def test_the_digits_recipe_provides_its_own_data(foveal, quick, tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.setenv("FOVEAL_CACHE", str(tmp_path / "cache"))
    said = foveal("train", RECIPE, *quick, "--epochs", "1", "--batch-size", "256", "--out", tmp_path / "run")
    assert said.code == 0
    assert "1,438 images" in said.error
    assert len(list((tmp_path / "cache" / "digits").glob("*/*/*.png"))) == 1797


def test_settings_are_passed_to_the_run(foveal, colours, quick, tmp_path):
    words = ["--lr", "0.002", "--seed", "5", "--size", "48", "--device-batch-size", "4", "--warmup-epochs", "0"]
    foveal("train", RECIPE, "--data", colours, "--out", tmp_path / "run", *quick, *words, "--epochs", "1")
    state = read_checkpoint(tmp_path / "run" / "last.pt")
    config = state["config"]
    assert (config["lr"], config["seed"], config["device_batch_size"], config["warmup_epochs"]) == (0.002, 5, 4, 0)
    assert state["card"]["preprocessing"]["size"] == (48, 48)
    assert state["card"]["model"] == "test_convnext"


def test_a_run_is_not_overwritten_and_can_be_resumed(foveal, colours, quick, tmp_path):
    words = ["train", RECIPE, "--data", colours, "--out", tmp_path / "run", *quick]
    assert foveal(*words).code == 0
    again = foveal(*words)
    assert again.code == 1
    assert again.is_one_sentence("already holds a run", "--resume")
    assert foveal(*words, "--resume").code == 0


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--resume"], ["no run to continue", "--resume"]),
        (["--data", "/nowhere"], ["no folder /nowhere", "--data"]),
        (["--model", "transnext_tinny"], ["transnext_tinny"]),
        (["--batch-size", "1000"], ["24 images", "--batch-size"]),
        (["--device-batch-size", "5"], ["--device-batch-size", "1, 2, 4, 8"]),
        (["--patience", "0"], ["patience must be at least 1"]),
        (["--lr", "-1"], ["lr must be above 0"]),
        (["--epochs", "0"], ["epochs must be at least 1"]),
        (["--batch-size", "0"], ["batch_size must be at least 1"]),
        (["--workers", "-1"], ["workers must be at least 0"]),
        (["--warmup-epochs", "5"], ["warmup_epochs must be at most epochs"]),
        (["--drop-path", "1.5"], ["drop_path must be at least 0 and below 1"]),
        (["--drop-path", "-0.1"], ["drop_path must be at least 0 and below 1"]),
        (["--model", "transxnet_atto", "--batch-size", "1"], ["batch norm", "--batch-size"]),
        (["--model", "vgg11", "--drop-path", "0.1"], ["leave --drop-path out"]),
        (["--checkpoint", "/nowhere.pt"], ["/nowhere.pt"]),
        (["--model", "transnext_atto", "--size", "16"], ["at least 32"]),
    ],
)
def test_bad_inputs_print_a_one_line_error_and_write_nothing(foveal, colours, quick, tmp_path, words, parts):
    out = tmp_path / "run"
    said = foveal("train", RECIPE, "--data", colours, "--out", out, *quick, *words)
    assert said.code == 1
    assert said.is_one_sentence(*parts)
    assert not out.exists()


def test_an_unknown_recipe_prints_a_one_line_error(foveal):
    said = foveal("train", "imagenet.transnext_tinny")
    assert said.code == 1
    assert said.is_one_sentence("did you mean imagenet.transnext_tiny", "`foveal train --list`")


def test_imagenet_recipes_require_data(foveal):
    said = foveal("train", "imagenet.transnext_tiny")
    assert said.code == 1
    assert said.is_one_sentence("pass --data DIR")


def test_a_corrupt_image_is_named_and_no_checkpoint_is_written(foveal, colours, quick, tmp_path):
    broken = colours / "train" / "red" / "5.png"
    broken.write_bytes(broken.read_bytes()[:100])
    said = foveal("train", RECIPE, "--data", colours, "--out", tmp_path / "run", *quick)
    assert said.code == 1
    assert said.error.splitlines()[-1].startswith(f"foveal: {broken} is not a readable image")
    assert "Traceback" not in said.error
    assert not (tmp_path / "run" / "last.pt").exists()


def test_a_truncated_checkpoint_prints_a_one_line_error(foveal, colours, quick, trained, tmp_path):
    trained.write_bytes(trained.read_bytes()[:-500])
    said = foveal("train", RECIPE, "--data", colours, "--out", tmp_path / "new", *quick, "--checkpoint", trained)
    assert said.code == 1
    assert said.is_one_sentence(str(trained))
    assert not (tmp_path / "new").exists()


def test_a_checkpoint_of_another_model_prints_a_one_line_error(foveal, colours, quick, trained, tmp_path):
    words = ["--checkpoint", trained, "--model", "transnext_atto"]
    said = foveal("train", RECIPE, "--data", colours, "--out", tmp_path / "new", *quick, *words)
    assert said.code == 1
    assert said.is_one_sentence(str(trained), "holds a test_convnext, not a transnext_atto")


def test_fine_tuning_starts_from_a_checkpoint(foveal, colours, trained, tmp_path):
    words = f"--epochs 1 --batch-size 8 --size 32 --workers 0 --warmup-epochs 0 --checkpoint {trained}".split()
    said = foveal("train", "finetune.test_convnext", "--data", colours, "--out", tmp_path / "tuned", *words)
    assert said.code == 0, said.error
    state = read_checkpoint(tmp_path / "tuned" / "last.pt")
    assert state["config"]["layer_decay"] == 0.75
    assert len({group["lr"] for group in state["optimizer"]["param_groups"]}) > 2


def test_ctrl_c_stops_cleanly_and_prints_how_to_resume(colours, tmp_path, foveal):
    out = tmp_path / "run"
    words = ["train", RECIPE, "--data", str(colours), "--out", str(out), "--model", "test_convnext"]
    words += ["--epochs", "400", "--batch-size", "8", "--workers", "1"]
    process = subprocess.Popen([sys.executable, "-m", "foveal.cli", *words], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (out / "best.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert error.splitlines()[-1] == (
        f"foveal: Stopped: `foveal train --resume --out {out}` continues from the last save."
    )
    state = read_checkpoint(out / "last.pt")
    assert 3 <= state["step"] < 1200
    files = ["best.pt", "last.pt", "metrics.jsonl", "run.json", "run.toml", "steps.jsonl"]
    assert sorted(path.name for path in out.iterdir()) == files
    logged = [json.loads(line)["epoch"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert logged == list(range(1, state["epoch"] + 1))


def test_sigterm_to_the_process_group_saves_and_exits_with_0(colours, tmp_path):
    """A scheduler signals every process, including the data loading workers."""
    out = tmp_path / "run"
    words = ["train", RECIPE, "--data", str(colours), "--out", str(out), "--model", "test_convnext"]
    words += ["--epochs", "400", "--batch-size", "8", "--workers", "1"]
    command = [sys.executable, "-m", "foveal.cli", *words]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not (out / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    said, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    step = read_checkpoint(out / "last.pt")["step"]
    assert said.startswith(f"Stopped after update {step}. State saved to {out / 'last.pt'}")
    assert "--resume" in said
    assert "Traceback" not in error


def test_broken_images_are_skipped_and_counted_on_request(foveal, colours, quick, tmp_path):
    (colours / "train" / "red" / "5.png").write_bytes(b"no image")
    out = tmp_path / "run"
    said = foveal("train", RECIPE, "--data", colours, "--out", out, *quick, "--broken", "skip")
    assert said.code == 0, said.error
    logged = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["broken_images"] for line in logged] == [1, 1, 1, 1]  # an epoch draws each of the 24 images once

    assert (out / "broken.txt").read_text() == f"{colours / 'train' / 'red' / '5.png'}\n"
    assert f"{out / 'broken.txt'} lists them" in said.out


def test_a_run_can_be_resumed_with_broken_images_skipped(foveal, colours, quick, tmp_path):
    """The image is none of those that are looked at before the start."""
    words = ["train", RECIPE, "--data", colours, "--out", tmp_path / "run", *quick, "--save-steps", "1"]
    (colours / "train" / "green" / "2.png").write_bytes(b"no image")
    stopped = foveal(*words)
    assert stopped.code == 1
    assert "2.png" in stopped.error
    saved = read_checkpoint(tmp_path / "run" / "last.pt")["step"]
    said = foveal(*words, "--resume", "--broken", "skip")
    assert said.code == 0, said.error
    assert read_checkpoint(tmp_path / "run" / "last.pt")["step"] > saved
    assert "2.png" in (tmp_path / "run" / BROKEN).read_text()


def test_requeue_starts_or_resumes_a_run_with_the_same_command(foveal, colours, quick, tmp_path):
    words = ["train", RECIPE, "--data", colours, "--out", tmp_path / "run", *quick, "--requeue"]
    first, again = foveal(*words), foveal(*words)
    assert (first.code, again.code) == (0, 0), again.error
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize("words", [["--tensorboard"], ["--track", "tensorboard"]])
def test_tensorboard_events_are_written_on_request(foveal, colours, quick, tmp_path, words):
    said = foveal("train", RECIPE, "--data", colours, "--out", tmp_path / "run", *quick, *words)
    assert said.code == 0, said.error
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


def test_the_device_batch_is_found_and_the_plan_says_so(foveal, colours, quick, tmp_path):
    """An update of 8 images fits into the memory of any machine, so it is not accumulated."""
    words = ["train", RECIPE, "--data", colours, "--out", tmp_path / "run", *quick, "--device-batch-size", "auto"]
    said = foveal(*words)
    assert said.code == 0, said.error
    assert json.loads((tmp_path / "run" / "run.json").read_text())["batching"]["device"] == 8
    assert "The device batch is 8, the largest that fits into " in said.error
    assert foveal(*words, "--resume").code == 0
    plan = foveal(*words, "--dry-run")
    assert "The device batch is found when a run starts (auto); 8" in " ".join(plan.out.split())


def test_an_unknown_tracker_prints_a_one_line_error(foveal, colours, quick, tmp_path):
    words = ["--data", colours, "--out", tmp_path / "run", *quick, "--track", "tensorboard,wandbb"]
    said = foveal("train", RECIPE, *words)
    assert said.code == 1
    assert said.is_one_sentence("no tracker 'wandbb', did you mean wandb")
    assert not (tmp_path / "run").exists()


def test_a_short_run_shortens_the_warmup_of_the_recipe(foveal, colours, quick, tmp_path):
    assert foveal("train", RECIPE, "--data", colours, "--out", tmp_path / "run", *quick, "--epochs", "2").code == 0
    assert read_checkpoint(tmp_path / "run" / "last.pt")["config"]["warmup_epochs"] == 1
