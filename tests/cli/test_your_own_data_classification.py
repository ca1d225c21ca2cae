"""Every command in the classification part of docs/your-own-data.md works, on folders in the form it describes."""

import io
import re
import shlex
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
from PIL import Image

from foveal.tasks import network

PAGE = (Path(__file__).parents[2] / "docs" / "your-own-data.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## Classification\n")[1].split("\n## ")[0]
SHORTER = ["--epochs", "1", "--workers", "0", "--batch-size", "4", "--warmup-epochs", "0"]
ANIMALS = ("cat", "dog")


def picture(number):
    draw = np.random.default_rng(number)
    stream = io.BytesIO()
    Image.fromarray(draw.integers(0, 256, (48, 40, 3), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def write_class_folders(folder, count):
    for name in ANIMALS:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            (folder / name / f"{number}.png").write_bytes(picture(number))


def write_shards(folder):
    folder.mkdir()
    (folder / "classes.txt").write_text("cat\ndog\n")
    for split in ("train", "val"):
        with tarfile.open(folder / f"{split}-000.tar", "w") as tar:
            for number in range(6):
                for ending, content in (("cls", b"%d" % (number % 2)), ("png", picture(number))):
                    info = tarfile.TarInfo(f"{number:06d}.{ending}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))


def write_labels(folder):
    (folder / "beach").mkdir(parents=True)
    for split in ("train", "val"):
        labels = ("sand sea", "sea", "", "people")
        rows = [f"beach/{split}{number}.png,{found}" for number, found in enumerate(labels)]
        (folder / f"{split}.csv").write_text("\n".join(["file,labels", *rows]) + "\n")
        for number in range(4):
            (folder / "beach" / f"{split}{number}.png").write_bytes(picture(number))


class Table:
    """The part of ``datasets.Dataset`` that is used."""

    def __init__(self, features):
        self.features = features
        self.rows = [{"photo": {"bytes": picture(n), "path": None}, "kind": n % 2} for n in range(6)]

    def __getitem__(self, key):
        return (
            {name: [row[name] for row in self.rows] for name in self.features} if key == slice(None) else self.rows[key]
        )

    def select_columns(self, names):
        return self

    def cast_column(self, name, feature):
        return self


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """The working directory of a reader, a hub with one dataset, and released weights without a download."""
    for split in ("train", "val"):
        write_class_folders(tmp_path / "DIR" / split, 4)
    for split in ("train", "valid", "test"):
        write_class_folders(tmp_path / "ROBOFLOW" / split, 3)
    for name in ("PHOTOS", "CVAT"):
        write_class_folders(tmp_path / name, 5)
    (tmp_path / "CVAT" / "labels.txt").touch()
    write_shards(tmp_path / "SHARDS")
    write_labels(tmp_path / "LABELS")
    (tmp_path / "photo.jpg").write_bytes(picture(0))
    (tmp_path / "more-photos").mkdir()
    (tmp_path / "more-photos" / "another.jpg").write_bytes(picture(1))
    hub = SimpleNamespace(Image=lambda decode=True: None, ClassLabel=type("ClassLabel", (), {"names": ["cat", "dog"]}))
    hub.Image = type("Image", (), {"__init__": lambda self, decode=True: None})
    features = {"photo": hub.Image(), "kind": hub.ClassLabel()}
    hub.load_dataset = lambda name: {"train": Table(features), "validation": Table(features)}
    monkeypatch.setitem(sys.modules, "datasets", hub)
    made = timm.create_model
    monkeypatch.setattr(network.timm, "create_model", lambda name, pretrained=False, **options: made(name, **options))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands():
    blocks = re.findall(r"```\n(foveal .*?)```", SECTION, flags=re.DOTALL)
    return [shlex.split(line, comments=True)[1:] for block in blocks for line in block.splitlines()]


def shortened(words):
    if words[0] == "predict":
        return words
    if words[0] == "evaluate":
        return [*words, "--workers", "0"]
    small = [] if "--size" in words else ["--size", "32"]
    return [*words, *SHORTER, *small]


def test_every_command_runs_and_all_images_are_used(foveal, reader):
    for words in commands():
        said = foveal(*shortened(words))
        assert said.code == 0, f"{words}: {said.error}"
        assert "Traceback" not in said.error


def test_the_page_has_a_command_for_every_folder_of_the_reader(reader):
    words = {word for line in commands() for word in line}
    assert {folder.name for folder in reader.iterdir() if folder.is_dir()} <= words
    assert {"hf:owner/pets", "photo.jpg"} <= words


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!http)([^)#]+)", SECTION))))
def test_links_exist(target):
    assert (Path(__file__).parents[2] / "docs" / target).exists()
