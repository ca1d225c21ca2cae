"""`import foveal` prints nothing, has no side effects on the system, and is fast."""

import json
import os
import subprocess
import sys

import pytest

# Imports modules after timm under an audit hook and prints what they did as JSON.
WATCHED = """
import json, sys, time
import timm
before, seen = set(sys.modules), []
def watch(event, args):
    writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if writes or event.startswith(("socket.", "subprocess.", "os.mkdir", "os.rename", "urllib.")):
        seen.append([event, str(args[0])])
sys.addaudithook(watch)
start = time.process_time()
import {modules}
seconds = time.process_time() - start
new = sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})
print(json.dumps(dict(seen=seen, new=new, seconds=seconds, registered=timm.is_model("transnext_tiny"))))
"""
OPTIONAL = {
    "triton",
    "matplotlib",
    "accelerate",
    "sklearn",
    "skimage",
    "transformers",
    "onnx",
    "onnxruntime",
    "openvino",
    "starlette",
    "uvicorn",
    "tyro",
    "rich",
}


def run(code: str, home) -> subprocess.CompletedProcess:
    """Run code in a subprocess with an empty home directory."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TORCH", "XDG_", "PYTEST"))}
    settings = {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-W", "error::DeprecationWarning:foveal", "-c", code]
    return subprocess.run(command, cwd=home, env={**kept, **settings}, capture_output=True, text=True, timeout=120)


def watch(modules: str, home) -> dict:
    """What importing the modules does in addition to timm; a DeprecationWarning from foveal is an error."""
    done = run(WATCHED.format(modules=modules), home)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> dict:
    return watch("foveal", tmp_path_factory.mktemp("home"))


def test_import_prints_and_writes_nothing(tmp_path):
    (tmp_path / "home").mkdir(mode=0o500)
    done = run("import foveal", tmp_path / "home")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.rglob("*")) == [tmp_path / "home"]


def test_import_opens_no_sockets_files_for_writing_or_processes(watched):
    assert watched["seen"] == []


def test_import_loads_no_optional_packages(watched):
    assert OPTIONAL & set(watched["new"]) == set()


def test_subpackages_load_optional_packages_only_when_used(tmp_path):
    parts = ("training", "tasks.classification", "integrations", "explain", "report", "runtime")
    parts += ("app.networks", "app.serve")
    done = watch(", ".join(f"foveal.{part}" for part in parts), tmp_path)
    assert OPTIONAL & set(done["new"]) == set()


def test_import_takes_less_than_half_a_second_after_timm(watched, tmp_path):
    """CPU time, so that other processes do not count; the better of two runs if the first is slow."""
    seconds = watched["seconds"]
    assert seconds < 0.5 or watch("foveal", tmp_path)["seconds"] < 0.5


def test_import_registers_the_models_without_a_gpu(watched):
    assert watched["registered"]


def test_public_names_exist():
    import foveal

    for name in foveal.__all__:
        assert hasattr(foveal, name), name
    for name in ("aggregated_attention", "gated_dwconv", "dynamic_dwconv", "use_backend", "explain"):
        assert name in foveal.ops.__all__, name
