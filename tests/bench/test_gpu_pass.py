"""``benchmarks/gpu_pass.py`` runs where little is installed, loses nothing to a failing part, and says what failed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"
BLOCKING = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"tyro", "rich", "docstring_parser", "accelerate", "typer"}:
            raise ModuleNotFoundError(f"{name} is not installed", name=name)
sys.meta_path.insert(0, Blocked())
"""
# Rows: one that is measured, one that ends its process, one that never ends, and another one that is measured.
CHILD = """
import json, os, sys, time
from pathlib import Path
lines = Path(sys.argv[1])
written = lines.read_text().splitlines() if lines.exists() else []
done = {json.loads(line)["row"] for line in written if '"row"' in line}
for row in ("first", "crash", "hang", "last"):
    if row in done:
        continue
    with lines.open("a") as file:
        print(json.dumps({"start": row, "dtype": "bf16"}), file=file, flush=True)
        if row == "crash":
            print('{"torn', file=file, end="", flush=True)
            os.abort()
        if row == "hang":
            time.sleep(600)
        print(json.dumps({"row": row, "dtype": "bf16"}), file=file, flush=True)
"""


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)


def run(*words, **environment):
    command = [sys.executable, str(FOLDER / "gpu_pass.py"), *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, check=False
    )


def test_it_runs_with_what_gpu_machines_have(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BLOCKING)
    path = os.pathsep.join([str(tmp_path), str(FOLDER.parent / "src")])
    out = tmp_path / "new" / "results.json"
    done = run("--device", "cpu", "--parts", "attention", "--minutes", 4, "--out", out, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text())
    assert {"date", "device", "commit", "torch", "triton", "timm", "python", "foveal"} <= set(results["facts"])
    part = results["parts"]["attention"]
    assert (part["state"], len(part["rows"])) == ("finished", 8)
    assert [row for row in part["rows"] if "failed" in row] == []
    assert {len(row["subjects"]) for row in part["rows"]} == {2}
    assert "nothing failed" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_without_a_gpu_one_sentence_says_so(monkeypatch, capsys):
    import gpu_pass

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_pass.py"])
    assert gpu_pass.main() == 1
    assert capsys.readouterr().err.startswith("No CUDA device was found: ")


def test_a_row_that_crashes_or_hangs_costs_nothing_but_itself(tmp_path):
    from gpu_parts.supervise import Lane, Part, run_part

    lane = Lane("", [sys.executable, "-c", CHILD, str(tmp_path / "rows")], tmp_path / "rows", dict(os.environ))
    seen = []
    result = run_part(Part("kernels", 1, row_share=0.1), [lane], 40, seen.append)
    assert result["state"] == "finished"
    rows = {row["row"]: row for row in result["rows"]}
    assert list(rows) == ["first", "crash", "hang", "last"]
    assert rows["crash"] == {"row": "crash", "dtype": "bf16", "failed": "the process ended with SIGABRT"}
    assert rows["hang"]["failed"] == "stopped: still running after 4 s"
    assert "failed" not in rows["last"]
    assert seen[0]["rows"][0]["row"] == "first"


def test_the_limit_of_a_part_keeps_its_rows(tmp_path):
    from gpu_parts.supervise import Lane, Part, run_part

    child = CHILD.replace("os.abort()", "time.sleep(600)")
    lanes = [Lane("", [sys.executable, "-c", child, str(tmp_path / "rows")], tmp_path / "rows", dict(os.environ))]
    result = run_part(Part("networks", 1, row_share=1.0), lanes, 4, lambda result: None)
    assert result["state"] == "cut"
    assert result["seconds"] < 8
    assert [(row["row"], "cut" in row) for row in result["rows"]] == [("first", False), ("crash", True)]


def test_a_process_that_cannot_start_is_reported_with_what_it_said(tmp_path):
    from gpu_parts.supervise import Lane, Part, run_part

    lane = Lane("", [sys.executable, "-c", "import nothing_of_this_name"], tmp_path / "rows", dict(os.environ))
    result = run_part(Part("networks", 1), [lane], 20, lambda result: None)
    assert result["state"] == "failed"
    assert "nothing_of_this_name" in result["output"]["output"]


def test_a_wrong_kernel_is_named_with_its_error_and_the_rest_goes_on(tmp_path, monkeypatch):
    from gpu_parts import kernels
    from gpu_parts.journal import Journal

    from foveal.bench.check import Comparison, Deviation

    found = iter([[Deviation("the gradient of g", 0.3, 0.01), Deviation("the output", 1e-3, 0.01)]])
    monkeypatch.setattr(Comparison, "deviations", lambda self, backend: next(found, None) or 1 / 0)
    monkeypatch.setitem(kernels.OPERATORS, "convolution", ("gelu_pool",))
    kernels.kernels(Journal(tmp_path / "rows", "cpu"), "convolution fp32", "cpu", small=True)
    rows = list(Journal(tmp_path / "rows", "cpu").rows.values())
    assert len(rows) == 2
    assert "is off by 3.0e-01 of the largest value in the gradient of g" in rows[0]["failed"]
    assert "ZeroDivisionError" in rows[1]["failed"]
    assert {(row["operator"], row["dtype"]) for row in rows} == {("gelu_pool", "fp32")}


def test_kernels_are_measured_whatever_their_first_use_says(tmp_path, monkeypatch):
    import gpu_pass
    from gpu_parts import kernels
    from gpu_parts.journal import Journal

    from foveal.ops.deviation import Deviation

    monkeypatch.delenv("FOVEAL_CHECK_KERNELS", raising=False)
    options = SimpleNamespace(device="cuda", small=True)
    settings = {
        name: {lane.environment.get("FOVEAL_CHECK_KERNELS") for lane in gpu_pass.lanes(part, options, tmp_path)}
        for name, part in gpu_pass.PARTS.items()
    }
    assert settings == {"kernels": {"0"}, **{name: {None} for name in settings if name != "kernels"}}

    found = iter([Deviation("the output", 0.002, 0.01), RuntimeError("no such layout")])
    monkeypatch.setattr(kernels, "examine", lambda operator, dtypes, numbers, device: next(found))
    monkeypatch.setitem(kernels.OPERATORS, "convolution", ("gated_dwconv", "dynamic_dwconv"))
    kernels.kernels(Journal(tmp_path / "rows", "cpu"), "convolution fp32", "cpu", small=True)
    rows = Journal(tmp_path / "rows", "cpu").rows
    assert len(rows) == 2 * (2 + 1)
    passed, failed = (rows[f"{use} fp32"] for use in ("gated_dwconv first use 3", "dynamic_dwconv first use 7"))
    assert (passed["backends"]["triton"]["share"], passed.get("failed")) == (0.2, None)
    assert failed["failed"] == "triton RuntimeError: no such layout"


@pytest.mark.parametrize("small", [False, True])
def test_every_operator_is_compared_on_six_shapes(small):
    from gpu_parts.kernels import OPERATORS, cases

    from foveal.bench.operators import SHAPES

    operators = [operator for group in OPERATORS.values() for operator in group]
    assert sorted(operators) == sorted(SHAPES)
    assert {len(cases(operator, small)) for operator in operators} == {2 if small else 6}


def test_the_summary_fits_a_terminal_and_a_reply():
    from gpu_parts.summary import summary

    failing = {"operator": "gated_dwconv", "dtype": "bf16", "failed": "triton " + "wrong " * 50, "backends": {}}
    kernel = {"name": "void " + "template<" * 30, "launches": 1.0, "ms": 2.0}
    step = {"form": "eager", "batch": 64, "ms": 318.0, "host_ms": 310.0, "held_mib": 300, "peak_mib": 9000}
    profile = {"profile": True, "kernel_ms": 59.0, "launches": 5000, "kernels": [kernel] * 12}
    training = [
        {"row": name, "subject": name, **more}
        for name in ("transnext_tiny", "convnext_tiny")
        for more in (step, profile)
    ]
    part = {"state": "finished", "seconds": 1.0, "limit_s": 2.0}
    rows = [{"row": f"kernel {number}", **failing} for number in range(500)]
    parts = {"kernels": {**part, "rows": rows}, "training": {**part, "rows": training}}
    facts = {"device": "GPU", "date": "now", "foveal": "0", "commit": "abc"}
    text = summary({"facts": facts, "parts": parts}, "results.json")
    assert len(text) < 10_000
    assert max(map(len, text.splitlines())) <= 80
    assert "500 failed" in text
    assert "and 480 more" in text
    assert " 59.0   19%    5000" in text


def test_kernels_and_the_hosts_time_are_those_of_one_call():
    from gpu_parts.kernel_time import host_seconds, kernel_time

    x = torch.randn(64, 64)
    found = kernel_time(lambda: x @ x @ x, "cpu", calls=3)
    assert {kernel.name: kernel.launches for kernel in found.kernels}["aten::mm"] == 2
    assert found.seconds == pytest.approx(sum(kernel.seconds for kernel in found.kernels))
    assert len(host_seconds(lambda: x @ x, "cpu", 4)) == 4
