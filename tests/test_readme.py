"""Every command and code block of the README works, in order."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import torch

from foveal.cli.app import COMMANDS, main
from foveal.models.catalogue import catalogue
from foveal.tasks.classification.digits import write_digits
from foveal.tasks.dense.shapes import write_shapes
from golden.fill import filled_state

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()

# Options that shorten each command while it still runs end to end.
SHORTER = {
    "ablate": [*("--rows", "more_heads", "--seeds", "1", "--epochs", "1", "--epoch-steps", "2", "--workers", "0")],
    "quickstart": ["--epochs", "1"],
    "train": ["--epochs", "1", "--workers", "0"],
    "app": ["--port", "0", "--no-browser"],
    "bench": ["--rounds", "2", "--batches", "1", "--sizes", "64", "--no-memory"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The working directory of a reader: an image folder, single images, a released checkpoint, and a few generated
    shapes (the dataset in the cache would be larger)."""
    folder = tmp_path_factory.mktemp("reader")
    write_digits(folder / "DIR")
    few = {"train": 24, "val": 8}
    for split, count in few.items():
        for directory in (folder / "DIR" / split).iterdir():
            for surplus in sorted(directory.iterdir())[count:]:
                surplus.unlink()
    for name in ("a.jpg", "b.jpg"):
        digit = next((folder / "DIR" / "val" / "3").iterdir())
        (folder / name).write_bytes(digit.read_bytes())
    write_shapes(folder / "SHAPES", train=8, val=2)
    torch.save(filled_state("transnext_micro"), folder / "transnext_micro_224_1k.pth")
    return folder


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    """The commands of the table, in order."""
    table = README.split("## One command per task")[1].split("\n## ")[0]
    return re.findall(r"\| `(foveal [^`]+)` \|", table)


def test_the_table_has_one_example_of_every_command():
    assert {shlex.split(line)[1] for line in commands()} == set(COMMANDS)


def test_python_blocks_run(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    namespace: dict = {}
    for block in python_blocks():
        exec(compile(block, "README.md", "exec"), namespace)
    printed = capsys.readouterr().out
    assert "torch.Size([1, 10])" in printed
    assert "[48, 96, 224, 448]" in printed
    assert len(namespace["report"].loaded) == 617


def test_commands_run(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("foveal.cli.explorer.serve", lambda *_: None)  # until Ctrl-C: tests/cli/test_explorer.py
    for line in commands():
        words = shlex.split(line)[1:]
        extra = [] if "--list" in words else SHORTER.get(words[0], [])
        if words[0] == "train" and "finetune" in words[1]:
            extra = [*extra, "--size", "32"]
        if words[0] in ("train", "evaluate") and any(word.startswith(("shapes.", "runs/shapes.")) for word in words):
            extra = [*extra, "--data", "SHAPES"]
        with pytest.raises(SystemExit) as leave:
            main([*words, *extra])
        assert not leave.value.code, f"{line}: {capsys.readouterr().err}"


def test_the_weights_table_matches_the_counts():
    rows = re.findall(r"\| `(trans\w+\.\w+)` \| (\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", README)
    counted = [
        (e.name, str(e.size), f"{e.params / 1e6:.2f}", f"{e.paper_macs / 1e9:.2f}", f"{e.top1}")
        for e in catalogue()
        if e.top1 is not None
    ]
    assert sorted(rows) == sorted(counted)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_links_exist(target):
    assert (ROOT / target).exists()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z-]+)", README))))
def test_makefile_has_the_readme_targets(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


def test_the_package_description_has_no_relative_links_or_pictures():
    spec = importlib.util.spec_from_file_location("setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = module.description(README)
    targets = re.findall(r"\]\(([^)]*)\)", text)
    assert targets
    assert [target for target in targets if not target.startswith("https://")] == []
    assert "other forms (`docs/your-own-data.md` in the repository)" in text
