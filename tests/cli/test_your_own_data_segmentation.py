"""Every command of docs/your-own-data.md about segmentation works on the layout that it is about."""

import re
import shlex
from pathlib import Path

import pytest
import timm
import torch

from support.segmentation_folders import write_cvat, write_folder, write_roboflow, write_split

PAGE = (Path(__file__).parents[2] / "docs" / "your-own-data.md").read_text(encoding="utf-8")
SHORTER = ["--epochs", "1", "--epoch-steps", "1", "--batch-size", "2", "--workers", "0", "--size", "64"]
SIDE = 40
START = "tensors were loaded from"  # of the notice about the weights that a run starts from
DRAWN = "held out for validation"  # of the notice about a draw


def commands() -> list[list[str]]:
    section = PAGE.split("## Segmentation")[1].split("\n## ")[0]
    lines = re.findall(r"^foveal [^#\n]+", section, flags=re.MULTILINE)
    return [shlex.split(line)[1:] for line in lines]


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A folder with a data set of each layout."""
    maps = [[[0] * SIDE] * 20 + [[1] * SIDE] * 10 + [[2] * SIDE] * 10] * 5
    for split in ("train", "val"):
        write_split(tmp_path / "DIR", split, maps, classes="background\ncat\ndog\n")
        write_split(tmp_path / "SUFFIXED", split, maps, classes="background\ncat\ndog\n")
    (tmp_path / "DIR" / "labels").rename(tmp_path / "DIR" / "masks")
    for file in list((tmp_path / "SUFFIXED" / "labels").rglob("*.png")):
        file.rename(file.with_stem(f"{file.stem}_mask"))
    write_folder(tmp_path / "WHOLE" / "images", tmp_path / "WHOLE" / "masks", maps)
    (tmp_path / "WHOLE" / "classes.txt").write_text("background\ncat\ndog\n")
    write_roboflow(tmp_path / "ROBOFLOW", maps[0])
    lists = write_cvat(tmp_path / "CVAT", maps[0]) / "ImageSets" / "Segmentation"
    for name in ("train", "val"):
        (lists / f"{name}.txt").unlink()
    (lists / "default.txt").write_text("a\nb\nc\n")
    (tmp_path / "photo.jpg").write_bytes((tmp_path / "DIR" / "images" / "val" / "a.png").read_bytes())
    torch.save(timm.create_model("transnext_atto", num_classes=2).state_dict(), tmp_path / "backbone.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shortened(words: list[str]) -> list[str]:
    """The command with a tiny network and one update; the released weights are replaced by a file."""
    if words[0] != "train":
        return words
    own = ["--pretrained", "--epochs", "20", "--epoch-steps", "500"]
    kept = [word for word in words if word not in own]
    start = ["--model", "transnext_atto", "--checkpoint", "backbone.pt"] if "--pretrained" in words else []
    return [*kept, *start, *SHORTER]


def test_every_command_works_in_order_and_notices_nothing(foveal, reader):
    assert len(commands()) == 10
    for words in commands():
        said = foveal(*shortened(words))
        assert said.code == 0, (words, said.error)
        expected = (START, DRAWN) if "WHOLE" in words or "CVAT" in words else (START,)
        lines = [line for line in said.error.splitlines() if line.startswith("foveal: ")]
        notices = [line for line in lines if not any(known in line for known in expected)]
        assert not notices, (words, said.error)
    assert (reader / "maps" / "photo_labels.png").exists()
