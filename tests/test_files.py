"""Files and folders are written completely or not at all."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from foveal.errors import FovealError
from foveal.files import (
    atomic_file,
    atomic_folder,
    cache_folder,
    check_writable,
    file_lock,
    output_paths,
    staging_folder,
)

KINDS = {"file": atomic_file, "folder": atomic_folder, "staging": staging_folder}
STOPS = [
    (OSError("full"), FovealError, r"out could not be written \(full\): make room\.$"),
    (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
]


def content(place):
    """The text of every file below a folder."""
    return {str(path.relative_to(place)): path.read_text() for path in place.rglob("*") if path.is_file()}


def fill(part, text):
    """Write a file at ``part``, or two files below it if it is a folder."""
    if part.is_dir():
        (part / "inner").mkdir()
        (part / "inner" / "one").write_text(text)
        (part / "two").write_text(text)
    else:
        part.write_text(text)


@pytest.mark.parametrize("durable", [False, True])
def test_the_old_file_is_kept_until_the_new_one_is_complete(tmp_path, durable):
    path = tmp_path / "out"
    path.write_text("before")
    with atomic_file(path, durable=durable) as part:
        part.write_text("after")
        assert path.read_text() == "before"
    assert content(tmp_path) == {"out": "after"}


@pytest.mark.parametrize("durable", [False, True])
def test_a_folder_appears_when_it_is_complete(tmp_path, durable):
    folder = tmp_path / "new" / "out"
    with atomic_folder(folder, durable=durable) as part:
        fill(part, "text")
        assert not folder.exists()
    assert content(tmp_path) == {"new/out/inner/one": "text", "new/out/two": "text"}
    assert folder.stat().st_mode & 0o777 == 0o755


def test_a_staging_folder_adds_several_files_at_once(tmp_path):
    fill(tmp_path, "old")
    with staging_folder(tmp_path) as staging:
        (staging / "two").write_text("new")
        (staging / "three").write_text("new")
        assert (tmp_path / "two").read_text() == "old"
    assert content(tmp_path) == {"inner/one": "old", "two": "new", "three": "new"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("stop", "error", "sentence"), STOPS)
def test_an_interrupted_write_leaves_no_files(tmp_path, kind, stop, error, sentence):
    def write_half():
        with KINDS[kind](tmp_path / "out", "make room") as part:
            fill(part, "half")
            raise stop

    expected = type(stop) if kind == "staging" else error  # the block may do more than write
    with pytest.raises(expected, match=None if kind == "staging" else sentence):
        write_half()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("stop", "error", "sentence"), STOPS)
def test_an_interrupted_write_keeps_the_old_file(tmp_path, stop, error, sentence):
    (tmp_path / "out").write_text("before")

    def write_half():
        with atomic_file(tmp_path / "out", "make room") as part:
            part.write_text("half")
            raise stop

    with pytest.raises(error, match=sentence):
        write_half()
    assert content(tmp_path) == {"out": "before"}


def test_an_interrupted_write_keeps_an_old_folder(tmp_path):
    fill(tmp_path, "before")

    def write_half():
        with staging_folder(tmp_path) as staging:
            (staging / "two").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert content(tmp_path) == {"inner/one": "before", "two": "before"}


def test_a_full_disk_raises_a_one_line_error(tmp_path):
    """The file is a link to /dev/full."""

    def write():
        with atomic_file(tmp_path / "out", "make room") as part:
            part.symlink_to("/dev/full")
            part.write_text("text")

    with pytest.raises(FovealError, match=r"out could not be written \(No space left on device\): make room\.$"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_detected_by_fsync_raises_a_one_line_error(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    def write():
        with atomic_folder(tmp_path / "out", "make room", durable=True) as part:
            fill(part, "text")

    with pytest.raises(FovealError, match=r"out could not be written \(No space left on device\): make room\.$"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_durable_write_is_synced_before_the_rename(tmp_path, monkeypatch):
    events = []
    fsync, rename = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", lambda descriptor: events.append("fsync") or fsync(descriptor))
    monkeypatch.setattr(Path, "rename", lambda part, folder: events.append("rename") or rename(part, folder))
    with atomic_folder(tmp_path / "out", durable=True) as part:
        fill(part, "text")
    assert events == ["fsync"] * 4 + ["rename", "fsync"]  # two files and their two folders, then the parent folder


def test_the_first_of_two_writers_of_a_folder_wins(tmp_path):
    with atomic_folder(tmp_path / "data") as second:
        (second / "second").touch()
        with atomic_folder(tmp_path / "data") as first:
            (first / "first").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["data", "first"]


RACE = """
import sys
import threading
from pathlib import Path
from foveal.files import atomic_folder

folder, me = Path(sys.argv[1]), sys.argv[2]
with atomic_folder(folder) as part:
    for number in range(50):
        (part / str(number)).write_text(me)
    print("filled", flush=True)
    sys.stdin.readline()
"""


def test_two_processes_that_write_the_same_folder_leave_a_complete_one(tmp_path):
    folder = tmp_path / "data"
    words = [sys.executable, "-c", RACE, str(folder)]
    both = [
        subprocess.Popen([*words, me], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for me in ("a", "b")
    ]
    for process in both:
        assert process.stdout.readline() == "filled\n"
    for process in both:  # both are complete; they rename at the same time
        process.stdin.write("\n")
        process.stdin.flush()
    for process in both:
        _, error = process.communicate(timeout=60)
        assert process.returncode == 0, error
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    texts = [path.read_text() for path in folder.iterdir()]
    assert len(texts) == 50
    assert len(set(texts)) == 1


def test_a_file_at_the_path_of_the_folder_raises_an_error(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(FovealError, match="Not a directory"), atomic_folder(tmp_path / "data"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("write", [atomic_folder, staging_folder])
def test_a_folder_below_a_file_raises_a_one_line_error(tmp_path, write):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(FovealError, match=r"file/out could not be written \(.*\): choose another place\.$"),
        write(tmp_path / "file" / "out"),
    ):
        pass


def test_check_writable_creates_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "inner"):
        with pytest.raises(FovealError, match=r"file is a file: pass --out with a folder\.$"):
            check_writable(place)
    check_writable(tmp_path / "not" / "yet")
    check_writable(Path("relative"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_missing_write_permission_raises_a_one_line_error(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda place, mode: False)  # root can write everywhere
    with pytest.raises(FovealError, match=r" is not writable: choose another --out\.$"):
        check_writable(tmp_path / "new")


def test_the_cache_folder_is_set_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.delenv("FOVEAL_CACHE", raising=False)
    assert cache_folder() == tmp_path / "user" / "foveal"
    monkeypatch.setenv("FOVEAL_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_outputs_overwrite_neither_each_other_nor_an_input(tmp_path):
    out = tmp_path / "out"
    inputs = [tmp_path / "a.jpg", tmp_path / "b" / "a.jpg", out / "c.png", tmp_path / "a.jpg"]
    assert output_paths(inputs, out, [".png", "_labels.png"]) == {
        str(inputs[0]): [out / "a.png", out / "a_labels.png"],
        str(inputs[1]): [out / "a_2.png", out / "a_2_labels.png"],
        str(inputs[2]): [out / "c_2.png", out / "c_2_labels.png"],
    }


def stage(folder, *names):
    with staging_folder(folder, "make room") as staging:
        for name in names:
            (staging / name).write_text("new")


def test_staged_files_do_not_replace_a_folder_and_none_is_moved(tmp_path):
    (tmp_path / "two").mkdir()
    with pytest.raises(FovealError, match=r"two is a folder, and a file of this name is to be written: make room\.$"):
        stage(tmp_path, "one", "two")
    assert content(tmp_path) == {}


def test_a_lock_is_held_by_one_and_its_file_removed(tmp_path):
    path = tmp_path / "lock"
    with file_lock(path) as first, file_lock(path) as second:
        assert (first, second) == (True, False)
    assert not path.exists()
    with file_lock(path) as again:
        assert again


def test_a_lock_is_waited_for(tmp_path):
    """The one who waits holds it after the first has let go, though the file was removed in between."""
    path, order = tmp_path / "lock", []

    def second():
        with file_lock(path, wait=True) as ours, file_lock(path) as another:
            order.append(("second", ours, another))

    waiting = threading.Thread(target=second)
    with file_lock(path):
        waiting.start()
        waiting.join(timeout=0.2)
        order.append("first")
    waiting.join(timeout=20)
    assert order == ["first", ("second", True, False)]
