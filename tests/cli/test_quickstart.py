"""The quickstart end to end with one epoch, and clean-up when it is stopped."""

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stdout

import pytest
import torch

from foveal.cli import quickstart
from foveal.cli.app import main
from foveal.errors import FovealError


def run(*words: str) -> tuple[int, str]:
    """Exit code and standard output of a foveal command."""
    said = io.StringIO()
    with redirect_stdout(said), pytest.raises(SystemExit) as leave:
        main(["quickstart", *words])
    return leave.value.code, said.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The output folder and printed JSON of a run of one epoch."""
    out = tmp_path_factory.mktemp("quickstart") / "deep" / "out"
    code, said = run("--out", str(out), "--epochs", "1", "--json")
    assert code == 0
    return out, json.loads(said)


def test_the_output_lists_the_paths_of_report_and_checkpoint(finished):
    out, answer = finished
    assert answer["report"] == str(out / "report.html")
    assert (out / "report.html").is_file()
    assert answer["checkpoint"] == str(out / "run" / "best.pt")
    assert (out / "run" / "best.pt").is_file()
    assert answer["epochs"] == 1
    assert answer["images"] == 359
    assert answer["top1"] == pytest.approx(100 * answer["right"] / 359)
    assert answer["top1"] > 50, "ten classes: chance is 10 %"


def test_the_images_are_written_to_class_folders(finished):
    out, _ = finished
    assert len(list(out.glob("digits/train/?/*.png"))) == 1797 - 359
    assert len(list(out.glob("digits/val/?/*.png"))) == 359


def test_the_report_is_complete_and_its_commands_name_the_final_folder(finished):
    out, _ = finished
    text = (out / "report.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert text.rstrip().endswith("</html>")
    assert ".part" not in text
    assert str(out / "run" / "best.pt") in text


def test_no_other_files_are_left(finished):
    out, _ = finished
    assert sorted(path.name for path in out.iterdir()) == ["digits", "flower.png", "report.html", "run"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_nonempty_folder_is_rejected_and_kept(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep")
    assert run("--out", str(tmp_path)) == (1, "")
    assert "already exists" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("fails", [False, True])
def test_an_existing_empty_folder_is_used_and_kept(fails, tmp_path, monkeypatch):
    def story(recipe, folder, *_):
        (folder / "digits").mkdir()
        if fails:
            raise FovealError("Drawing failed.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quickstart, "_run", story)
    monkeypatch.setattr(quickstart, "quickstart_page", lambda results: "page")
    monkeypatch.setattr(quickstart, "_print_summary", lambda results: None)
    assert run("--out", ".")[0] == (1 if fails else 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ([] if fails else ["digits", "report.html"])


def test_an_unwritable_folder_prints_a_one_line_error(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run("--out", str(tmp_path / "file" / "out"))[0] == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("stop", [FovealError("Drawing failed."), KeyboardInterrupt()], ids=["error", "ctrl-c"])
def test_an_interrupted_run_leaves_no_files_and_restores_the_thread_count(stop, tmp_path, monkeypatch):
    def story(recipe, folder, *_):
        (folder / "digits").mkdir()
        (folder / "report.html").write_text("half")
        raise stop

    monkeypatch.setattr(quickstart, "_run", story)
    threads = torch.get_num_threads()
    assert run("--out", str(tmp_path / "out"))[0] in (1, 130)
    assert not list(tmp_path.iterdir())
    assert torch.get_num_threads() == threads


def test_the_default_folder_is_the_next_free_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "foveal-quickstart").mkdir()
    (tmp_path / "foveal-quickstart-2").mkdir()
    seen = []
    monkeypatch.setattr(quickstart, "_run", lambda recipe, folder, target, started: seen.append(target))
    monkeypatch.setattr(quickstart, "quickstart_page", lambda results: "page")
    monkeypatch.setattr(quickstart, "_print_summary", lambda results: None)
    assert run()[0] == 0
    assert [str(target) for target in seen] == ["foveal-quickstart-3"]
    assert (tmp_path / "foveal-quickstart-3" / "report.html").read_text() == "page"


@pytest.mark.parametrize("words", [("--epochs", "0"), ("--seed", "-1")])
def test_invalid_settings_print_a_one_line_error(words, tmp_path, capsys):
    assert run("--out", str(tmp_path / "out"), *words)[0] == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent as a signal to a process group")
def test_ctrl_c_during_training_exits_cleanly(tmp_path):
    words = [sys.executable, "-m", "foveal.cli", "quickstart", "--out", str(tmp_path / "out")]
    job = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    for line in job.stderr:
        if line.startswith("epoch"):
            os.killpg(job.pid, signal.SIGINT)
            break
    said, complained = job.communicate(timeout=60)
    assert job.returncode == 130
    assert said == ""
    assert "Traceback" not in complained
    assert not list(tmp_path.iterdir())
