"""Options become the words that they were typed with."""

from dataclasses import dataclass
from pathlib import Path

from foveal.cli.typed import words_of


@dataclass(frozen=True)
class Options:
    data: Path | None = None
    size: tuple[int, ...] = ()
    dry_run: bool = False
    lr: float | None = None
    json: bool = False


def test_only_what_differs_from_the_default_is_repeated():
    assert words_of(Options(), {}) == []
    options = Options(Path("my data"), (64, 96), dry_run=True, json=True)
    expected = ["--data", "my data", "--size", "64", "96", "--dry-run", "--batch-size", "8"]
    assert words_of(options, {"batch_size": 8}, frozenset({"json"})) == expected


def test_a_number_keeps_its_digits():
    assert words_of(Options(lr=0.0003), {}) == ["--lr", "0.0003"]
