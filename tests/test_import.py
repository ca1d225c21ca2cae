"""`import foveal` is silent, leaves no trace, and is quick."""

import os
import subprocess
import sys

import pytest

WATCHED = """
import sys
import torch, timm
before = set(sys.modules)
seen = []
def watch(event, args):
    writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if writes or event.startswith(("socket.", "subprocess.", "os.mkdir", "os.rename", "urllib.")):
        seen.append((event, str(args[0])))
sys.addaudithook(watch)
import foveal
"""


def run(code: str, folder=None) -> subprocess.CompletedProcess:
    """In a process of its own, at home in `folder`."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TORCH", "XDG_", "PYTEST"))}
    home = {"HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"} if folder else {}
    command = [sys.executable, "-W", "error::DeprecationWarning:foveal", "-c", code]
    return subprocess.run(command, cwd=folder, env={**keep, **home}, capture_output=True, text=True, timeout=120)


def test_it_prints_nothing_and_writes_nothing(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home").chmod(0o500)
    done = run("import foveal", tmp_path / "home")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.rglob("*")) == [tmp_path / "home"]


def test_it_opens_no_socket_no_file_for_writing_and_no_process(tmp_path):
    done = run(WATCHED + "print(seen)", tmp_path)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    "code", ["import foveal", "import foveal.training, foveal.tasks, foveal.explain, foveal.report"]
)
def test_it_imports_no_optional_package(code, tmp_path):
    optional = [
        "triton",
        "matplotlib",
        "accelerate",
        "sklearn",
        "skimage",
        "transformers",
        "tensorboard",
        "onnx",
        "gradio",
        "tyro",
        "rich",
    ]
    done = run(f"{code}\nimport sys\nprint([m for m in {optional} if m in sys.modules])", tmp_path)
    assert done.stdout.strip() == "[]", done.stderr


def test_it_adds_less_than_half_a_second_to_timm(tmp_path):
    code = "import time, timm\nstart = time.process_time()\nimport foveal\nprint(time.process_time() - start)"
    assert min(float(run(code, tmp_path).stdout) for _ in range(3)) < 0.5


def test_it_needs_no_cuda_and_registers_the_models(tmp_path):
    code = "import os\nos.environ['CUDA_VISIBLE_DEVICES'] = ''\nimport foveal, timm\nprint(timm.is_model('transnext_tiny'))"
    assert run(code, tmp_path).stdout.strip() == "True"


def test_what_is_promised_is_there():
    import foveal

    for name in foveal.__all__:
        assert hasattr(foveal, name), name
    for name in ("aggregated_attention", "gated_dwconv", "dynamic_dwconv", "use_backend", "explain"):
        assert name in foveal.ops.__all__, name
