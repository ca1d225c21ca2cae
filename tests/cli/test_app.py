"""Command dispatch and error messages."""

import os
import signal
import subprocess
import sys
import time
import types

import pytest

import foveal_script
from foveal.cli import app
from foveal.cli.console import say
from foveal.errors import FovealError
from foveal.files import staging_folder
from foveal_commands import overview
from foveal_script import wait_briefly


@pytest.fixture
def command(monkeypatch):
    """A command ``try`` with a body supplied by the test."""

    def install(body):
        module = types.ModuleType("foveal.cli.attempt")
        module.main = body
        monkeypatch.setitem(sys.modules, "foveal.cli.attempt", module)
        monkeypatch.setitem(app.COMMANDS, "try", ("foveal.cli.attempt", "tries"))

    return install


def test_help_lists_every_command_and_succeeds(foveal):
    said = foveal("--help")
    assert said.code == 0
    assert all(name in said.out for name in app.COMMANDS)


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_the_command_list_is_printed_without_heavy_imports(word):
    program = f"import sys, foveal_script; sys.argv = ['foveal', '{word}']; foveal_script.main();" \
              "sys.exit(bool({'foveal', 'torch', 'timm', 'tyro'} & set(sys.modules)))"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, overview() + "\n")


def test_help_into_a_closed_pipe_exits_quietly():
    reading, writing = os.pipe()
    os.close(reading)
    program = "import sys, foveal_script; sys.argv = ['foveal', '--help']; foveal_script.main()"
    done = subprocess.run([sys.executable, "-c", program], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_command_shows_the_help_and_fails(foveal):
    said = foveal()
    assert said.code == 2
    assert "usage: foveal COMMAND" in said.out


def test_a_mistyped_command_gets_a_suggestion(foveal):
    said = foveal("trian")
    assert said.code == 2
    assert said.is_one_sentence("'trian', did you mean train", "`foveal --help`")


@pytest.mark.parametrize("name", ["train", "evaluate", "predict"])
def test_each_command_has_a_help_page(foveal, name):
    said = foveal(name, "--help")
    assert said.code == 0
    assert f"usage: foveal {name}" in said.out
    assert not said.error


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["train", "digits.transnext_atto", "--lr", "fast"], ["--lr takes a number, not 'fast'"]),
        (["train", "digits.transnext_atto", "--lr"], ["--lr takes a number, and there is none"]),
        (["train", "digits.transnext_atto", "--speed", "3"], ["There is no option --speed"]),
        (["train", "digits.transnext_atto", "--precision", "fp8"], ["'fp8'", "fp32", "bf16", "fp16"]),
        (["evaluate", "digits.transnext_atto"], ["--checkpoint"]),
        (["predict", "--checkpoint", "best.pt"], ["An image is missing"]),
        (["train"], ["A recipe is missing", "--list"]),
    ],
)
def test_invalid_arguments_print_a_one_line_error(foveal, words, parts):
    said = foveal(*words)
    assert said.code == 2
    assert said.is_one_sentence(*parts, "foveal ")


def test_a_foveal_error_is_printed_in_one_line_without_traceback(foveal, command):
    def body() -> None:
        raise FovealError("The moon is out of reach: wait for it.")

    command(body)
    said = foveal("try")
    assert (said.code, said.error) == (1, "foveal: The moon is out of reach: wait for it.\n")


def test_ctrl_c_exits_with_130_without_traceback(foveal, command):
    def body() -> None:
        raise KeyboardInterrupt

    command(body)
    said = foveal("try")
    assert said.code == 130
    assert said.is_one_sentence("Stopped")


def test_an_unexpected_error_keeps_its_traceback(command):
    def body() -> None:
        raise ZeroDivisionError

    command(body)
    with pytest.raises(ZeroDivisionError):
        app.main(["try"])


@pytest.mark.parametrize(
    ("given", "count"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
    ids=["neither", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"],
)
def test_threads_spin_briefly_unless_the_environment_sets_a_wait_policy(monkeypatch, given, count):
    monkeypatch.setattr(os, "environ", dict(given))
    wait_briefly()
    assert os.environ.get("GOMP_SPINCOUNT") == count


def test_the_thread_wait_policy_is_set_before_pytorch_is_imported():
    """PyTorch's OpenMP library reads the variable when it is loaded."""
    program = """
import os, sys, foveal_script
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"))
            sys.exit()
sys.meta_path.insert(0, Watch())
sys.argv = ["foveal", "predict", sys.executable, "--checkpoint", sys.executable]
foveal_script.main()
"""
    environment = {n: v for n, v in os.environ.items() if n not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("10000\n", "")


def test_a_command_writing_to_a_closed_pipe_exits_without_a_traceback():
    command = subprocess.Popen(
        [sys.executable, "-m", "foveal.cli", "models", "atto"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    command.stdout.close()
    said = command.stderr.read().decode()
    command.stderr.close()
    assert (command.wait(), said) == (1, "")


def test_a_terminated_command_removes_what_is_half_written(monkeypatch, tmp_path):
    def command():
        with staging_folder(tmp_path / "out", "choose another") as stage:
            (stage / "half.png").write_text("half")
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)  # the signal ends it

    monkeypatch.setattr("foveal.cli.app.main", command)
    monkeypatch.setattr(sys, "argv", ["foveal", "explain"])
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as leave:
            foveal_script.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert leave.value.code == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_a_sentence_is_wrapped_at_the_width_and_a_long_path_stays_whole(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    path = "/photographs/of-all/the-cats" * 3
    say(f"Calibrated on images that are evaluated, those of {path}: there are no others.")
    lines = capsys.readouterr().out.splitlines()
    assert f"{path}:" in lines
    assert all(len(line) <= 40 for line in lines if path not in line)
