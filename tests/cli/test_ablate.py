"""``foveal ablate`` runs a table, goes on after an interruption, repeats nothing, and refuses other settings."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from foveal.ablation import TableRun
from foveal.ablation.runner import CLAIM
from foveal.files import file_lock
from foveal.training.checkpoint import read_checkpoint
from support.runs import lines

TABLE, ROWS = "transnext.token_mixers", ("A-A-A-M", "a_a_m_m")
QUICK = ("--epochs", "1", "--epoch-steps", "2", "--batch-size", "8", "--workers", "0")
LONGER = (*QUICK[:2], "--epoch-steps", "30", *QUICK[4:])
ROW_FILES = {"a_a_a_m.seed0", "a_a_m_m.seed0"}


def words(out, *more, rows=ROWS, seeds=1, quick=QUICK):
    return ["ablate", TABLE, "--rows", *rows, "--seeds", str(seeds), "--out", str(out), *quick, *more]


def start(*command):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "foveal.cli", *command]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_table_is_run_and_its_files_written(foveal, tmp_path):
    said = foveal(*words(tmp_path / "out", quick=("--epochs", "2", *QUICK[2:])))
    assert said.code == 0, said.error
    assert max(len(line) for line in said.out.splitlines() if not line.startswith("Written to")) <= 80
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *ROW_FILES, "table.json", "results.csv", "summary.json", "summary.md", "ablation.png",
    }  # fmt: skip
    finished = [line.split(":")[:2] for line in said.error.splitlines()]
    assert finished == [
        ["run 1/2", " a_a_a_m (row 1 of 2), seed 0"], ["run 2/2", " a_a_m_m (row 2 of 2), seed 0"],
    ]  # fmt: skip
    with (tmp_path / "out" / "results.csv").open() as file:
        records = list(csv.DictReader(file))
    for record in records:
        history = lines(tmp_path / "out" / f"{record['row']}.seed0", "metrics.jsonl")
        assert float(record["last"]) == history[-1]["val_top1"]
        assert float(record["best"]) == max(epoch["val_top1"] for epoch in history)


def test_results_are_of_all_rows_in_the_folder_also_after_a_command_for_one(foveal, tmp_path):
    assert foveal(*words(tmp_path, rows=ROWS[:1])).code == 0
    said = foveal(*words(tmp_path, rows=ROWS[1:]))
    assert said.code == 0, said.error
    with (tmp_path / "results.csv").open() as file:
        assert [record["row"] for record in csv.DictReader(file)] == ["a_a_a_m", "a_a_m_m"]
    assert "A-A-A-M" in said.out


def test_a_folder_without_a_run_may_get_other_settings(foveal, tmp_path):
    """A mistyped --data must not close the folder to the right one."""
    said = foveal(*words(tmp_path, "--data", tmp_path / "nowhere"))
    assert said.code != 0
    assert "nowhere" in said.error
    assert foveal(*words(tmp_path)).code == 0


@pytest.mark.parametrize("name", ["table.json", "a_a_a_m.seed0/result.json"])
def test_a_damaged_file_is_named_with_what_to_do(foveal, tmp_path, name):
    assert foveal(*words(tmp_path, rows=ROWS[:1])).code == 0
    (tmp_path / name).write_text("{")
    said = foveal(*words(tmp_path, rows=ROWS[:1]))
    assert said.code == 1
    assert f"{tmp_path / name} is damaged: delete it" in said.error
    (tmp_path / name).unlink()
    assert foveal(*words(tmp_path, rows=ROWS[:1])).code == 0


def test_the_same_command_repeats_nothing_and_more_seeds_may_follow(foveal, tmp_path):
    assert foveal(*words(tmp_path)).code == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*")}
    said = foveal(*words(tmp_path, "--json"))
    assert said.code == 0, said.error
    document = json.loads(said.out)
    assert [(run["row"], run["seed"]) for run in document["runs"]] == [("a_a_a_m", 0), ("a_a_m_m", 0)]
    assert document["interrupted"] is False
    assert document["summary"] == json.loads((tmp_path / "summary.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*")} == before
    said = foveal(*words(tmp_path, rows=ROWS[:1], seeds=2))
    assert "1 of 2 runs is finished already" in said.error
    assert "run 2/2: a_a_a_m (row 1 of 1), seed 1" in said.error
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(
    ("changed", "what"),
    [(("--epochs", "3"), "epochs = 1, not 3"), (("--lr", "1e-3"), "lr = 0.002, not 0.001")],
)
def test_other_settings_are_refused(foveal, tmp_path, changed, what):
    begin(TableRun.create(TABLE, rows=ROWS, seeds=1, out=tmp_path, settings=settings()))
    said = foveal(*words(tmp_path, *changed))
    assert said.code == 1
    assert said.is_one_sentence(f"{tmp_path} holds runs with {what}:", "choose another --out")
    assert not list(tmp_path.glob("*/last.pt"))


def begin(plan):
    """Leave a folder as a table does whose first run has begun."""
    plan.claim()
    plan.runs[0].folder.mkdir()
    (plan.runs[0].folder / "run.json").write_text("{}")


def settings():
    return {"epochs": 1, "epoch_steps": 2, "batch_size": 8, "workers": 0}


def test_another_table_is_refused(foveal, tmp_path):
    begin(TableRun.create(TABLE, out=tmp_path, settings=settings()))
    said = foveal("ablate", "transxnet.design", "--out", tmp_path, *QUICK)
    assert said.is_one_sentence("holds runs with table = transnext.token_mixers, not transxnet.design")


def test_a_run_that_another_process_trains_is_left_to_it(foveal, tmp_path):
    plan = TableRun.create(TABLE, rows=ROWS, seeds=1, out=tmp_path)
    taken = plan.runs[0].folder
    taken.mkdir(parents=True)
    with file_lock(taken / CLAIM):
        said = foveal(*words(tmp_path))
    assert said.code == 0, said.error
    assert not (taken / "last.pt").exists()
    assert (plan.runs[1].folder / "result.json").exists()
    assert "If another process trains the rest, it completes the table" in said.out


def cut_short(out, number):
    """Start a table, send its process a signal in the first run, and return its exit code and what it said."""
    process = start(*words(out, quick=LONGER))
    logged = out / "a_a_a_m.seed0" / "steps.jsonl"
    while process.poll() is None and not (logged.exists() and len(logged.read_text().splitlines()) > 3):
        time.sleep(0.02)
    process.send_signal(number)
    said = process.communicate(timeout=200)
    assert 3 < read_checkpoint(logged.with_name("last.pt"))["step"] < 30
    assert not logged.with_name("result.json").exists()
    return process.returncode, *said


def test_an_interrupted_table_goes_on_and_equals_an_uninterrupted_one(tmp_path):
    code, out, error = cut_short(tmp_path / "cut", signal.SIGINT)
    assert (code, out) == (130, "")
    assert error.endswith("foveal: Stopped: the same command goes on from the last save.\n")
    assert "Traceback" not in error
    for name in ("cut", "straight"):
        process = start(*words(tmp_path / name, quick=LONGER))
        _, error = process.communicate(timeout=200)
        assert process.returncode == 0, error
    for row in ROW_FILES:
        one, other = (read_checkpoint(tmp_path / name / row / "last.pt") for name in ("straight", "cut"))
        assert all(torch.equal(value, other["model"][name]) for name, value in one["model"].items())
        assert lines(tmp_path / "straight" / row, "steps.jsonl") == lines(tmp_path / "cut" / row, "steps.jsonl")
    one, other = ((tmp_path / name / "summary.md").read_text() for name in ("straight", "cut"))
    assert one == other


def test_sigterm_is_a_good_end(tmp_path):
    code, out, error = cut_short(tmp_path / "cut", signal.SIGTERM)
    assert code == 0, error
    assert (
        out == f"Stopped, and everything is saved to {tmp_path / 'cut'}; the same command goes on from the last save.\n"
    )


def test_several_processes_share_the_runs(tmp_path):
    process = start(*words(tmp_path / "two", "--jobs", "2", "--json"))
    out, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    ran = [line.split(": ")[1] for line in error.splitlines() if line.startswith("run ")]
    assert sorted(ran) == ["a_a_a_m (row 1 of 2), seed 0", "a_a_m_m (row 2 of 2), seed 0"]
    assert [(run["row"], run["seed"]) for run in json.loads(out)["runs"]] == [("a_a_a_m", 0), ("a_a_m_m", 0)]


def test_a_run_that_cannot_be_trained_is_named(foveal, tmp_path):
    said = foveal(*words(tmp_path, "--warmup-epochs", "1"))
    assert said.code == 1
    assert said.is_one_sentence("a_a_a_m, seed 0: A warm-up of 1 epoch lasts until the end")


def test_a_dry_run_lists_rows_and_what_is_left_out(foveal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = foveal("ablate", "transnext.token_mixers", "--dry-run")
    assert said.code == 0, said.error
    assert "15 runs of 6 epochs on scikit-learn's digits, 3 for each row" in said.out
    assert "foveal train ablation.transnext.token_mixers.a_a_a_m" in said.out
    document = json.loads(foveal("ablate", "transnext.roadmap", "--dry-run", "--json").out)
    recipes = [row["recipe"] for row in document["rows"]]
    assert "ablation.transnext.roadmap.glu_convglu" in recipes
    assert not list(tmp_path.iterdir())


def test_without_a_table_all_are_listed(foveal):
    tables = json.loads(foveal("ablate", "--json").out)
    assert {"transnext.roadmap", "transxnet.design"} <= {table["table"] for table in tables}
    said = foveal("ablate")
    assert max(map(len, said.out.splitlines())) <= 80
    assert all(table["table"] in said.out for table in tables)


@pytest.mark.parametrize(
    ("asked", "parts"),
    [
        (("transnext.roadmaps",), ("There is no table 'transnext.roadmaps'", "transnext.roadmap")),
        (("transnext.imagenet",), ("is not an ablation",)),
        (("transnext.roadmap", "--rows", "more_head"), ("no row 'more_head'", "did you mean more_heads")),
        (("transnext.roadmap", "--seeds", "0"), ("--seeds must be at least 1",)),
        (("transnext.roadmap", "--jobs", "0"), ("--jobs must be at least 1",)),
        (("transnext.roadmap", "--seed", "3"), ("pass --seeds",)),
    ],
)
def test_wrong_words_are_one_sentence(foveal, tmp_path, monkeypatch, asked, parts):
    monkeypatch.chdir(tmp_path)
    assert foveal("ablate", *asked).is_one_sentence(*parts)
    assert not list(tmp_path.iterdir())
