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

TABLE, ROWS = "transxnet.attention_ratio", ("0.25", "0_5")
QUICK = ("--epochs", "2", "--epoch-steps", "2", "--batch-size", "8", "--workers", "0")
ROW_FILES = {"0_25.seed0", "0_5.seed0"}


def words(out, *more, rows=ROWS, seeds=1, quick=QUICK):
    return ["ablate", TABLE, "--rows", *rows, "--seeds", str(seeds), "--out", str(out), *quick, *more]


def start(*command):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "foveal.cli", *command]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_table_is_run_and_its_files_written(foveal, tmp_path):
    said = foveal(*words(tmp_path / "out"))
    assert said.code == 0, said.error
    assert max(map(len, said.out.splitlines()[:-1])) <= 80
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *ROW_FILES, "table.json", "results.csv", "summary.json", "summary.md", "ablation.png",
    }  # fmt: skip
    finished = [line.split(":")[:2] for line in said.error.splitlines()]
    assert finished == [
        ["run 1/2", " 0_25 (row 1 of 2), seed 0"], ["run 2/2", " 0_5 (row 2 of 2), seed 0"],
    ]  # fmt: skip
    with (tmp_path / "out" / "results.csv").open() as file:
        records = list(csv.DictReader(file))
    for record in records:
        history = lines(tmp_path / "out" / f"{record['row']}.seed0", "metrics.jsonl")
        assert float(record["last"]) == history[-1]["val_top1"]
        assert float(record["best"]) == max(epoch["val_top1"] for epoch in history)


def test_the_same_command_repeats_nothing_and_more_seeds_may_follow(foveal, tmp_path):
    assert foveal(*words(tmp_path)).code == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*")}
    said = foveal(*words(tmp_path, "--json"))
    assert said.code == 0, said.error
    document = json.loads(said.out)
    assert [(run["row"], run["seed"]) for run in document["runs"]] == [("0_25", 0), ("0_5", 0)]
    assert document["interrupted"] is False
    assert document["summary"] == json.loads((tmp_path / "summary.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*")} == before
    said = foveal(*words(tmp_path, rows=ROWS[:1], seeds=2))
    assert "1 of 2 runs are finished already" in said.error
    assert "run 2/2: 0_25 (row 1 of 1), seed 1" in said.error
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(
    ("changed", "what"),
    [(("--epochs", "3"), "epochs = 2, not 3"), (("--lr", "1e-3"), "lr = 0.002, not 0.001")],
)
def test_other_settings_are_refused(foveal, tmp_path, changed, what):
    TableRun.create(TABLE, rows=ROWS, seeds=1, out=tmp_path, settings=settings()).claim()
    said = foveal(*words(tmp_path, *changed))
    assert said.code == 1
    assert said.is_one_sentence(f"{tmp_path} holds runs with {what}:", "choose another --out")
    assert not list(tmp_path.glob("*/last.pt"))


def settings():
    return {"epochs": 2, "epoch_steps": 2, "batch_size": 8, "workers": 0}


def test_another_table_is_refused(foveal, tmp_path):
    TableRun.create(TABLE, out=tmp_path, settings=settings()).claim()
    said = foveal("ablate", "transxnet.design", "--out", tmp_path, *QUICK)
    assert said.is_one_sentence("holds runs with table = transxnet.attention_ratio, not transxnet.design")


def test_a_run_that_another_process_trains_is_left_to_it(foveal, tmp_path):
    plan = TableRun.create(TABLE, rows=ROWS, seeds=1, out=tmp_path)
    taken = plan.runs[0].folder
    taken.mkdir(parents=True)
    with file_lock(taken / CLAIM):
        said = foveal(*words(tmp_path))
    assert said.code == 0, said.error
    assert not (taken / "last.pt").exists()
    assert (plan.runs[1].folder / "result.json").exists()
    assert "Other processes train the rest" in said.out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_an_interrupted_table_goes_on_and_equals_an_uninterrupted_one(tmp_path, number, code):
    quick = (*QUICK[:2], "--epoch-steps", "30", *QUICK[4:], "--save-steps", "1")
    straight = start(*words(tmp_path / "straight", quick=quick))
    cut = start(*words(tmp_path / "cut", quick=quick))
    logged = tmp_path / "cut" / "0_25.seed0" / "steps.jsonl"
    deadline = time.monotonic() + 120
    while not (logged.exists() and len(logged.read_text().splitlines()) > 3) and time.monotonic() < deadline:
        time.sleep(0.02)
    cut.send_signal(number)
    out, error = cut.communicate(timeout=120)
    assert cut.returncode == code, error
    assert "the same command goes on from the last save" in (error if code else out)
    assert 3 < read_checkpoint(tmp_path / "cut" / "0_25.seed0" / "last.pt")["step"] < 60
    assert not (tmp_path / "cut" / "0_25.seed0" / "result.json").exists()
    resumed = start(*words(tmp_path / "cut", quick=quick))
    for process in (straight, resumed):
        _, error = process.communicate(timeout=240)
        assert process.returncode == 0, error
    for row in ROW_FILES:
        one, other = (read_checkpoint(tmp_path / name / row / "last.pt") for name in ("straight", "cut"))
        assert all(torch.equal(value, other["model"][name]) for name, value in one["model"].items())
        assert lines(tmp_path / "straight" / row, "steps.jsonl") == lines(tmp_path / "cut" / row, "steps.jsonl")
    one, other = ((tmp_path / name / "summary.md").read_text() for name in ("straight", "cut"))
    assert one == other


def test_several_processes_share_the_runs(foveal, tmp_path):
    process = start(*words(tmp_path / "two", "--jobs", "2", "--json", seeds=2))
    out, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    ran = [line.split(": ")[1] for line in error.splitlines() if line.startswith("run ")]
    assert len(ran) == len(set(ran)) == 4
    runs = json.loads(out)["runs"]
    assert [(run["row"], run["seed"]) for run in runs] == [("0_25", 0), ("0_25", 1), ("0_5", 0), ("0_5", 1)]


def test_a_run_that_cannot_be_trained_is_named(foveal, tmp_path):
    said = foveal(*words(tmp_path, "--warmup-epochs", "2"))
    assert said.code == 1
    assert said.is_one_sentence("0_25, seed 0: A warm-up of 2 epochs lasts until the end")


def test_a_dry_run_lists_rows_and_what_is_left_out(foveal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = foveal("ablate", "transxnet.attention_ratio", "--dry-run")
    assert said.code == 0, said.error
    assert "9 runs of 8 epochs on scikit-learn's digits, 3 for each row" in said.out
    assert "foveal train ablation.transxnet.attention_ratio.0_25" in said.out
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
