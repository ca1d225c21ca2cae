"""Folders of made data: whole or not at all."""

from pathlib import Path

import pytest

from foveal.tasks.cache import cache_folder, filled_whole


def test_a_folder_appears_when_it_is_filled(tmp_path):
    with filled_whole(tmp_path / "new" / "data") as part:
        (part / "file").touch()
        assert not (tmp_path / "new" / "data").exists()
    assert [path.relative_to(tmp_path) for path in (tmp_path / "new").rglob("*")] == [
        Path("new/data"),
        Path("new/data/file"),
    ]


def test_an_interruption_leaves_nothing(tmp_path):
    def interrupted():
        with filled_whole(tmp_path / "data") as part:
            (part / "file").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_who_comes_second_takes_the_folder_of_the_first(tmp_path):
    with filled_whole(tmp_path / "data") as second:
        (second / "second").touch()
        with filled_whole(tmp_path / "data") as first:
            (first / "first").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["data", "first"]


def test_something_else_in_the_folders_place_is_no_success(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(OSError, match="Not a directory"), filled_whole(tmp_path / "data"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_cache_lies_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.delenv("FOVEAL_CACHE", raising=False)
    assert cache_folder() == tmp_path / "user" / "foveal"
    monkeypatch.setenv("FOVEAL_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
