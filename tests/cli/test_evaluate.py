"""``foveal evaluate``: reproduces the metrics of the run, at one or more sizes."""

import json
import shlex

import pytest

RECIPE = "digits.transnext_atto"


def test_json_is_the_only_output_and_reproduces_the_run(foveal, colours, trained):
    said = foveal("evaluate", RECIPE, "--checkpoint", trained, "--data", colours, "--workers", 0, "--json")
    assert said.code == 0
    document = json.loads(said.out)
    history = [json.loads(line) for line in (trained.parent / "metrics.jsonl").read_text().splitlines()]
    (result,) = document["results"]
    assert result["top1"] == max(line["val_top1"] for line in history)
    assert (result["images"], result["size"]) == (12, [32, 32])
    assert document["model"] == "test_convnext"
    assert document["checkpoint"] == str(trained)


def test_each_size_gets_a_row(foveal, colours, trained):
    said = foveal("evaluate", RECIPE, "--checkpoint", trained, "--data", colours, "--workers", 0, "--size", 32, 64)
    assert said.code == 0
    heading, *rows = said.out.splitlines()
    assert heading.split()[:3] == ["size", "images", "top-1"]
    assert [row.split()[0] for row in rows] == ["32x32", "64x64"]


def test_pool_size_is_rejected_for_models_without_one(foveal, colours, trained):
    said = foveal("evaluate", RECIPE, "--checkpoint", trained, "--data", colours, "--pool-size", 7)
    assert said.code == 1
    assert said.is_one_sentence("no pool size", "--pool-size")


@pytest.mark.parametrize(("pool", "code"), [(1, 0), (7, 1)])
def test_linear_mode_is_enabled_with_pool_size(foveal, colours, tmp_path, pool, code):
    words = ["--epochs", "1", "--batch-size", "24", "--workers", "0", "--warmup-epochs", "0"]
    assert foveal("train", RECIPE, "--data", colours, "--out", tmp_path / "run", *words).code == 0
    best = tmp_path / "run" / "best.pt"
    said = foveal("evaluate", RECIPE, "--checkpoint", best, "--data", colours, "--size", 64, "--pool-size", pool)
    assert said.code == code  # at 64 pixels the third feature map is 4x4: it can be pooled to 1, not to 7
    assert code == 0 or said.is_one_sentence("pool")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--checkpoint", "/nowhere.pt"], ["/nowhere.pt"]),
        (["--data", "/nowhere"], ["no folder /nowhere"]),
        (["--split", "test"], ["no folder test/"]),
    ],
)
def test_bad_inputs_print_a_one_line_error(foveal, colours, trained, words, parts):
    said = foveal("evaluate", RECIPE, "--checkpoint", trained, "--data", colours, *words)
    assert said.code == 1
    assert said.is_one_sentence(*parts)


def test_a_corrupt_image_is_named(foveal, colours, trained):
    (colours / "val" / "red" / "1.png").write_text("no image")
    said = foveal("evaluate", RECIPE, "--checkpoint", trained, "--data", colours, "--workers", 1)
    assert said.code == 1
    assert said.is_one_sentence("val/red/1.png is not a readable image")


@pytest.mark.parametrize("words", [["--batch-size", "0"], ["--workers", "-1"]])
def test_out_of_range_numbers_are_usage_errors(foveal, colours, trained, words):
    said = foveal("evaluate", RECIPE, "--checkpoint", trained, "--data", colours, *words)
    assert said.code == 2
    assert said.is_one_sentence(words[0], words[1])


def test_the_command_suggested_after_training_runs_unchanged(foveal, colours, quick, tmp_path):
    data = colours.rename(tmp_path / "my colours")
    said = foveal("train", RECIPE, "--data", data, "--out", tmp_path / "run", *quick, "--epochs", "1")
    assert "1 epoch of 3 updates" in said.error
    (advice,) = [line for line in said.out.splitlines() if line.startswith("Evaluate them: ")]
    command, *words = shlex.split(advice.removeprefix("Evaluate them: "))
    assert command == "foveal"
    assert foveal(*words).code == 0


def test_no_digits_are_written_if_the_checkpoint_is_missing(foveal, tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEAL_CACHE", str(tmp_path / "cache"))
    said = foveal("evaluate", RECIPE, "--checkpoint", tmp_path / "nowhere.pt")
    assert said.is_one_sentence("nowhere.pt")
    assert not (tmp_path / "cache").exists()


def test_the_set_in_json_and_text_is_the_one_that_was_read(foveal, colours, trained):
    words = ["evaluate", RECIPE, "--checkpoint", trained, "--data", colours, "--workers", 0, "--split", "train"]
    document = json.loads(foveal(*words, "--json").out)
    assert [(cell["set"], cell["images"]) for cell in document["results"]] == [("train", 24)]
    assert document["data"] == str(colours / "train")
    heading, row = foveal(*words).out.splitlines()
    assert (heading.split()[0], row.split()[0]) == ("set", "train")
