"""Options of ``foveal train`` from TOML files: ``--config``, and the ``run.toml`` of every run."""

from pathlib import Path

import pytest

from foveal.cli import run_file
from foveal.cli.commands.train import RunOptions, main
from foveal.cli.run_file import kept, read_run_file, write_run_file
from foveal.cli.signature import options_of
from foveal.errors import FovealError
from foveal.training.checkpoint import read_checkpoint

RECIPE = "digits.transnext_atto"
OPTIONS = options_of(main)


def settings_of(out):
    return read_checkpoint(out / "last.pt")["config"]


@pytest.fixture
def config(tmp_path, colours):
    """A file with the options that a tiny run needs."""
    path = tmp_path / "config.toml"
    path.write_text(
        f'recipe = "{RECIPE}"\ndata = "{colours}"\nmodel = "test_convnext"\n'
        "epochs = 2\nbatch-size = 8\nlr = 5e-3\nworkers = 0\nsave_steps = 2\n"
    )
    return path


def test_a_run_takes_its_options_from_a_file(foveal, config, tmp_path):
    said = foveal("train", "--config", config, "--out", tmp_path / "run")
    assert said.code == 0, said.error
    found = settings_of(tmp_path / "run")
    assert (found["epochs"], found["batch_size"], found["lr"], found["save_steps"]) == (2, 8, 5e-3, 2)


def test_what_is_typed_counts_more_than_the_file(foveal, config, tmp_path):
    said = foveal("train", "--config", config, "--out", tmp_path / "run", "--epochs", "1", "--lr", "0.001")
    assert said.code == 0, said.error
    found = settings_of(tmp_path / "run")
    assert (found["epochs"], found["batch_size"], found["lr"]) == (1, 8, 1e-3)


def test_a_run_keeps_what_it_was_given_and_nothing_else(foveal, colours, tmp_path, monkeypatch):
    """Paths work from any folder; the folder itself is not kept, so that a copy of the run can be moved."""
    monkeypatch.chdir(colours.parent)
    words = ["--data", colours.name, "--model", "test_convnext", "--epochs", "1", "--batch-size", "8", "--lr", "5e-3"]
    assert foveal("train", RECIPE, *words, "--workers", "0", "--out", "run", "--json").code == 0
    assert run_file.tomllib.loads((tmp_path / "run" / "run.toml").read_text()) == {
        "recipe": RECIPE, "data": str(colours), "model": "test_convnext", "epochs": 1, "batch-size": 8, "lr": 5e-3,
        "workers": 0,
    }  # fmt: skip


def test_the_file_of_a_run_repeats_it(foveal, config, tmp_path):
    assert foveal("train", "--config", config, "--out", tmp_path / "one").code == 0
    assert foveal("train", "--config", tmp_path / "one" / "run.toml", "--out", tmp_path / "two").code == 0
    one, two = (read_checkpoint(tmp_path / name / "last.pt") for name in ("one", "two"))
    assert one["config"] == two["config"]
    assert all((value == two["model"][name]).all() for name, value in one["model"].items())
    assert (tmp_path / "one" / "run.toml").read_text() == (tmp_path / "two" / "run.toml").read_text()


def test_a_run_that_is_refused_leaves_no_file(foveal, config, tmp_path):
    said = foveal("train", "--config", config, "--out", tmp_path / "run", "--device-batch-size", "5")
    assert said.is_one_sentence("--device-batch-size")
    assert not (tmp_path / "run").exists()


def test_the_plan_takes_its_options_from_a_file_too(foveal, config):
    said = foveal("train", "--config", config, "--dry-run")
    assert said.code == 0, said.error
    assert "2 epochs of 3 updates" in said.out


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("epoch = 3", ["there is no option 'epoch', did you mean epochs", "`foveal train --help`"]),
        ("batch_sise = 3", ["'batch_sise', did you mean batch-size"]),
        ("config = 'other.toml'", ["there is no option 'config'"]),
        ("epochs = 'ten'", ['epochs takes a whole number, not "ten"']),
        ("epochs = 3.5", ["epochs takes a whole number, not 3.5"]),
        ("epochs = true", ["epochs takes a whole number, not true"]),
        ("epochs = [3]", ["epochs takes a whole number, not [3]"]),
        ("lr = 'fast'", ['lr takes a number, not "fast"']),
        ("pretrained = 1", ["pretrained takes true or false, not 1"]),
        ("precision = 'fp61'", ['precision takes fp32, bf16 or fp16, not "fp61", did you mean fp16']),
        ("data = 3", ["data takes a path, not 3"]),
        ("[lr]\ntop = 3", ["lr takes a number, not a table"]),
        ("save-steps = 3\nsave_steps = 3", ["save-steps is there twice"]),
        ("epochs 3", ["is not TOML", "line 1"]),
    ],
)
def test_a_mistake_in_a_file_is_one_sentence_with_its_name(foveal, tmp_path, line, parts):
    path = tmp_path / "config.toml"
    path.write_text(line)
    said = foveal("train", "--config", path)
    assert said.code == 1
    assert said.is_one_sentence(str(path), *parts)


def test_a_missing_file_is_named(foveal, tmp_path):
    said = foveal("train", "--config", tmp_path / "none.toml")
    assert said.is_one_sentence(f"There is no file {tmp_path / 'none.toml'}", "--config")
    assert foveal("train", "--config", tmp_path).is_one_sentence("could not be read")


@pytest.mark.parametrize(
    "value", ['a "quoted" name', "back\\slash", "tab\tand\nline", "\x7f", "été 图", "\N{FIRE}", "#", "a\udce9b"]
)
def test_every_string_is_read_as_it_was_written(tmp_path, value):
    """The last one is a name of a file that is not UTF-8, as Python decodes it."""
    write_run_file(tmp_path / "run.toml", {"model": value, "lr": 1e-05, "epochs": 3, "pretrained": True}, OPTIONS)
    found = read_run_file(tmp_path / "run.toml", OPTIONS)
    assert found == {"model": value, "lr": 1e-05, "epochs": 3, "pretrained": True}


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("photos", "{here}/photos"),
        ("/data/photos", "/data/photos"),
        ("hf:food101", "hf:food101"),
        ("photos/train-{000..146}.tar", "{here}/photos/train-{{000..146}}.tar"),
        ("a-{0..3}.tar::b-{0..1}.tar", "{here}/a-{{0..3}}.tar::{here}/b-{{0..1}}.tar"),
        ("https://host/a.tar::https://host/b.tar", "https:/host/a.tar::https:/host/b.tar"),  # read as with two slashes
        ("pipe:cat a.tar", "pipe:cat a.tar"),
    ],
)
def test_places_are_kept_so_that_they_are_found_from_any_folder(tmp_path, monkeypatch, given, stored):
    monkeypatch.chdir(tmp_path)
    found = kept(RunOptions(recipe=RECIPE, data=Path(given)))
    assert found == {"recipe": RECIPE, "data": stored.format(here=tmp_path)}


def test_words_with_commas_may_be_a_list(tmp_path):
    (tmp_path / "a.toml").write_text('track = ["tensorboard", "wandb"]\ndevice-batch-size = "auto"\n')
    found = read_run_file(tmp_path / "a.toml", OPTIONS)
    assert found == {"track": "tensorboard,wandb", "device_batch_size": "auto"}


def test_the_home_folder_may_be_abbreviated(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.toml").write_text('data = "~/photos"\n')
    assert read_run_file(tmp_path / "a.toml", OPTIONS) == {"data": tmp_path / "photos"}


def test_a_full_disk_is_one_sentence(tmp_path):
    with pytest.raises(FovealError, match=r"run.toml could not be written"):
        write_run_file(tmp_path / "none" / "run.toml", {"lr": 0.1}, OPTIONS)
