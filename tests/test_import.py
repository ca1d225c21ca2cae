"""`import foveal` is silent, leaves no trace, and is quick."""

import json
import os
import subprocess
import sys

import pytest

# Imports a module after timm, watched, and prints what it did as JSON.
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
    "gradio",
    "tyro",
    "rich",
}


def run(code: str, home) -> subprocess.CompletedProcess:
    """In a process of its own, in an empty home."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TORCH", "XDG_", "PYTEST"))}
    settings = {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-W", "error::DeprecationWarning:foveal", "-c", code]
    return subprocess.run(command, cwd=home, env={**kept, **settings}, capture_output=True, text=True, timeout=120)


def watch(modules: str, home) -> dict:
    """What importing the modules did beyond what timm does; a DeprecationWarning of ours would be an error."""
    done = run(WATCHED.format(modules=modules), home)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> dict:
    return watch("foveal", tmp_path_factory.mktemp("home"))


def test_it_prints_nothing_and_writes_nothing(tmp_path):
    (tmp_path / "home").mkdir(mode=0o500)
    done = run("import foveal", tmp_path / "home")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.rglob("*")) == [tmp_path / "home"]


def test_it_opens_no_socket_no_file_for_writing_and_no_process(watched):
    assert watched["seen"] == []


def test_it_imports_no_optional_package(watched):
    assert OPTIONAL & set(watched["new"]) == set()


def test_its_rooms_import_no_optional_package_until_it_is_used(tmp_path):
    done = watch(
        "foveal.training, foveal.tasks.classification, foveal.integrations, foveal.explain, foveal.report", tmp_path
    )
    assert OPTIONAL & set(done["new"]) == set()


def test_it_adds_less_than_half_a_second_to_timm(watched, tmp_path):
    """Time of the processor, so that neighbours do not count; the better of two where the first was slow."""
    seconds = watched["seconds"]
    assert seconds < 0.5 or watch("foveal", tmp_path)["seconds"] < 0.5


def test_it_registers_the_models_without_a_gpu(watched):
    assert watched["registered"]


def test_what_is_promised_is_there():
    import foveal

    for name in foveal.__all__:
        assert hasattr(foveal, name), name
    for name in ("aggregated_attention", "gated_dwconv", "dynamic_dwconv", "use_backend", "explain"):
        assert name in foveal.ops.__all__, name
