"""The digits dataset: real images written as files, reproducibly, and completely or not at all."""

import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveal.errors import FovealError
from foveal.tasks.classification import digits
from foveal.tasks.classification.data import open_train_and_val
from foveal.tasks.classification.digits import write_digits

sklearn_datasets = pytest.importorskip("sklearn.datasets")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_digits(tmp_path_factory.mktemp("digits") / "digits")


def test_every_digit_is_written_once_with_its_pixels(folder):
    source = sklearn_datasets.load_digits()
    files = sorted(folder.glob("*/*/*.png"), key=lambda path: path.name)
    assert [int(path.stem) for path in files] == list(range(1797))
    for path in files[::50]:
        number = int(path.stem)
        assert path.parent.name == str(source.target[number])
        image = Image.open(path)
        assert image.mode == "L"
        assert image.size == (8, 8)
        assert (np.round(np.asarray(image) / 255 * 16) == source.images[number]).all()


def test_a_fifth_of_each_class_is_for_validation(folder):
    train, val = open_train_and_val(folder)
    assert train.classes == [str(digit) for digit in range(10)]
    for digit, total in Counter(train.targets + val.targets).items():
        assert abs(Counter(val.targets)[digit] - total / 5) <= 0.5


def test_the_split_is_reproducible(folder, tmp_path):
    again = write_digits(tmp_path / "again")
    assert sorted(p.name for p in (again / "val").rglob("*.png")) == sorted(
        p.name for p in (folder / "val").rglob("*.png")
    )


def test_a_complete_folder_is_left_alone(folder, monkeypatch):
    monkeypatch.setattr(digits, "_load", lambda: pytest.fail("written twice"))
    assert write_digits(folder) == folder


def test_an_interruption_leaves_no_files(tmp_path, monkeypatch):
    written = []

    def interrupted(self, path):
        written.append(path)
        if len(written) == 100:
            raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_digits(tmp_path / "digits")
    assert list(tmp_path.iterdir()) == []


def test_other_files_in_the_folder_are_kept(tmp_path):
    (tmp_path / "digits" / "train" / "0").mkdir(parents=True)
    (tmp_path / "digits" / "train" / "0" / "mine.png").touch()
    with pytest.raises(FovealError, match="holds 1 of the 1797 digits"):
        write_digits(tmp_path / "digits")


def test_missing_scikit_learn_names_the_extra_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(FovealError, match=r"pip install 'foveal\[train\]'"):
        write_digits(tmp_path / "digits")


class Later(type(Path())):
    """A folder that another process creates between the existence check and the renaming."""

    def exists(self, **words):
        return False


def test_a_second_process_uses_the_folder_of_the_first(folder, tmp_path):
    place = Later(shutil.copytree(folder, tmp_path / "digits"))
    assert write_digits(place) == place
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]
