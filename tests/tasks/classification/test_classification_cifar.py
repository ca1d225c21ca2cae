"""CIFAR-100 in its distributed format, from synthetic files."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR100

from foveal.errors import FovealError
from foveal.tasks.classification.data.cifar import cifar100_folder, is_cifar100
from foveal.tasks.classification.recipes import get_recipe
from foveal.tasks.classification.task import ClassificationTask
from foveal.tasks.recipes import create_task

NAMES = ["apple", "bear", "clock"]


def write_pickle(path, content):
    with path.open("wb") as file:
        pickle.dump(content, file, protocol=2)


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """Three classes in the layout of cifar-100-python; its parent is the root for torchvision."""
    monkeypatch.setenv("FOVEAL_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "root" / "cifar-100-python"
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for name, count in (("train", 12), ("test", 6)):
        pixels = draw.integers(0, 256, (count, 3072), dtype=np.uint8)
        labels = [number % 3 for number in range(count)]
        write_pickle(folder / name, {"data": pixels, "fine_labels": labels, "coarse_labels": labels})
    write_pickle(folder / "meta", {"fine_label_names": NAMES, "coarse_label_names": ["all"]})
    return folder


def as_torchvision_reads(folder, train, monkeypatch):
    monkeypatch.setattr(CIFAR100, "_check_integrity", lambda self: True)
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": None})
    return [(np.asarray(image), NAMES[label]) for image, label in CIFAR100(str(folder.parent), train)]


@pytest.mark.parametrize("split", ["train", "val"])
def test_images_equal_those_read_by_torchvision(cifar, monkeypatch, split):
    expected = as_torchvision_reads(cifar, split == "train", monkeypatch)
    files = sorted((cifar100_folder(cifar) / split).glob("*/*.png"), key=lambda path: path.name)
    assert len(files) == len(expected)
    for path, (pixels, name) in zip(files, expected, strict=True):
        assert path.parent.name == name
        assert np.array_equal(np.asarray(Image.open(path)), pixels)


def test_the_folder_and_its_parent_are_recognised(cifar, tmp_path):
    assert is_cifar100(cifar)
    assert is_cifar100(cifar.parent)
    assert not is_cifar100(tmp_path)
    assert cifar100_folder(cifar) == cifar100_folder(cifar.parent)


def test_a_recipe_accepts_the_folder(cifar):
    recipe = get_recipe("cifar100.transnext_pico").with_model("test_convnext")
    task = create_task(recipe, cifar.parent)
    assert (task.classes, task.train_size, len(task.val)) == (NAMES, 12, 6)


def test_images_are_written_once_and_changed_contents_to_another_folder(cifar):
    first = ClassificationTask.data_folder(get_recipe("cifar100.transnext_pico"), cifar)
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*.png")}
    assert ClassificationTask.data_folder(get_recipe("cifar100.transnext_pico"), cifar) == first
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*.png")} == before
    content = {"data": np.zeros((3, 3072), np.uint8), "fine_labels": [0, 1, 2]}
    write_pickle(cifar / "test", content)
    assert ClassificationTask.data_folder(get_recipe("cifar100.transnext_pico"), cifar) != first


class Harm:
    def __reduce__(self):
        return print, ("a pickle has run code",)


@pytest.mark.parametrize(
    "content",
    [
        Harm(),
        {"fine_labels": [0]},
        {"data": np.zeros((2, 3072), np.uint8), "fine_labels": [0]},
        {"data": np.zeros((1, 3072), np.uint8), "fine_labels": [7]},
        {"data": np.zeros((1, 100), np.uint8), "fine_labels": [0]},
    ],
    ids=["code", "no images", "too few labels", "unknown label", "wrong shape"],
)
def test_a_damaged_file_raises_a_one_line_error_and_runs_no_code(cifar, capsys, content, tmp_path):
    write_pickle(cifar / "train", content)
    with pytest.raises(FovealError, match=r"train is not a file of CIFAR-100 \(.*\): unpack CIFAR-100 again\.$"):
        cifar100_folder(cifar)
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "cache").exists()


def test_a_truncated_file_raises_a_one_line_error(cifar):
    (cifar / "train").write_bytes((cifar / "train").read_bytes()[:200])
    with pytest.raises(FovealError, match="train is not a file of CIFAR-100"):
        cifar100_folder(cifar)


def test_a_second_process_uses_the_folder_of_the_first(cifar, monkeypatch):
    """The first process finishes while the second one is writing."""
    folder = cifar100_folder(cifar)
    monkeypatch.setattr(Path, "exists", lambda self: False)
    assert cifar100_folder(cifar) == folder
    monkeypatch.undo()
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
