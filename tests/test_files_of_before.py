"""Compatibility: recipes are unchanged, and files written by foveal in November 2026 (commit 0237ef2) still work.

The files are tiny models trained for one or two epochs on a few noise images; ``answers.json`` is the output of
``foveal predict --json`` on the day they were written.
"""

import gzip
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveal.cli.app import main
from foveal.tasks.recipes import create_task, get_recipe, list_recipes
from foveal.training import TrainConfig, fit

GOLDEN = Path(__file__).parent / "golden"
FILES = GOLDEN / "files_of_2026_11"
RECIPES = json.loads((GOLDEN / "recipes.json").read_text())
#: Pixel counts, which change with rounding.
UNSTABLE = ("segmentation", "area", "pixels")
ANSWERS = json.loads((FILES / "answers.json").read_text())


def unpack(name: str, folder: Path) -> Path:
    path = folder / f"{name}.pt"
    path.write_bytes(gzip.decompress((FILES / f"{name}.pt.gz").read_bytes()))
    return path


def photograph(folder: Path) -> Path:
    """A smooth, reproducible image."""
    y, x = np.mgrid[:64, :80]
    pixels = np.stack([127 + 120 * np.sin(x / 9), 127 + 120 * np.cos(y / 7), 3 * x + 0 * y], axis=-1)
    path = folder / "picture.png"
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return path


def answer(name: str, folder: Path, capsys) -> list:
    words = ["predict", str(photograph(folder)), "--checkpoint", str(unpack(name, folder)), "--json"]
    words += ["--score", "0"] if name == "detector_best" else []
    words += ["--out", str(folder / "maps")] if name == "segmenter_best" else []
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 0
    return json.loads(capsys.readouterr().out)


def plain(found, folder: Path):
    """The output without the name of its folder."""
    return json.loads(json.dumps(found).replace(f"{folder}/", ""))


def numbers_and_rest(found) -> tuple[list[float], str]:
    """The floats of an output, which differ between processors by rounding, and the rest."""
    fractions: list[float] = []

    def take(value):
        if isinstance(value, float):
            fractions.append(value)
            return "#"
        if isinstance(value, dict):
            return {key: take(item) for key, item in value.items() if key not in UNSTABLE}
        return [take(item) for item in value] if isinstance(value, list) else value

    return fractions, json.dumps(take(found))


@pytest.mark.parametrize("name", RECIPES)
def test_every_field_of_a_recipe_is_unchanged(name):
    recipe = get_recipe(name)
    newer = {"train": {**asdict(TrainConfig()), **RECIPES[name]["train"]}}  # settings since then have their defaults
    fields = {"kind": recipe.kind, **asdict(recipe)}
    fields.pop("asked", None)  # what was asked for on top of a recipe is no part of it
    assert plain_types(fields) == plain_types({**RECIPES[name], **newer})


def plain_types(document):
    return json.loads(json.dumps(document))


def test_every_recipe_is_recorded():
    assert {recipe.name for recipe in list_recipes()} <= RECIPES.keys()


@pytest.mark.parametrize("name", ["classifier_best", "classifier_last", "detector_best", "segmenter_best"])
def test_an_old_checkpoint_gives_the_same_predictions(name, tmp_path, capsys):
    found, rest = numbers_and_rest(plain(answer(name, tmp_path, capsys), tmp_path))
    expected, expected_rest = numbers_and_rest(ANSWERS[name])
    assert rest == expected_rest
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_an_old_run_can_be_resumed(tmp_path):
    """The run was stopped after the seventh of nine updates."""
    data, out = tmp_path / "data", tmp_path / "run"
    draw = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for name, offset in (("dark", 0), ("light", 130)):
            (data / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = (draw.integers(0, 100, (40, 40, 3)) + offset).astype(np.uint8)
                Image.fromarray(pixels).save(data / split / name / f"{number}.png")
    settings = dict(epochs=3, batch_size=4, warmup_epochs=0, workers=0, log_every=1, ema_decay=0.9, lr=1e-3)
    recipe = get_recipe("digits.transnext_atto").with_training(**settings)
    small = dict(depths=(1, 1, 1, 1), embed_dims=(24, 24, 24, 24), mlp_ratios=(1, 1, 1, 1))
    recipe = replace(recipe, model_args=small)
    out.mkdir()
    (out / "metrics.jsonl").write_bytes((FILES / "classifier_metrics.jsonl").read_bytes())
    last = unpack("classifier_last", out).rename(out / "last.pt")
    outcome = fit(create_task(recipe, data), recipe.train, out, resume=last)
    assert [line["epoch"] for line in outcome.history] == [1, 2, 3]
    assert outcome.updates == 9
