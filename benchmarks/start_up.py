"""Measure how long a run needs before its first step, on many small images, and compare two checkouts.

    python benchmarks/start_up.py                          # this checkout
    python benchmarks/start_up.py --before ../other        # and another one, with the ratio
    python benchmarks/start_up.py --commands               # how soon commands answer, instead

Writes a data set for each task: class folders, COCO's layout, and label maps. Then it measures, round by round and
with the checkouts in turn, each time in a new process:

- open: the time of ``open_images``, which lists and checks everything, without the imports;
- dry-run: the time of the whole command ``foveal train RECIPE --data DIR --dry-run``.

With ``--commands``: the time of whole commands that should answer at once, and of ``foveal predict`` for one image with
a small classifier, which it trains first.

Ratios are of the same round, so that a machine whose load changes does not favour one checkout; their median is shown.
The first round is not counted: the system reads folders from the disk then.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parents[1]
SIDE, CLASSES, VALIDATION = 32, 20, 0.1  # pixels; classes; share of the images that is for validation

OPEN = """
import sys, time
from pathlib import Path
from foveal.tasks.recipes import get_recipe
from foveal.tasks.registry import task_class
recipe = get_recipe(sys.argv[1])
task = task_class(recipe.kind)
started = time.perf_counter()
train, val = task.open_images(recipe, Path(sys.argv[2]))
print(len(train), len(val), time.perf_counter() - started)
"""


def counts(images: int) -> dict[str, int]:
    """Return the number of images of each split."""
    val = max(round(VALIDATION * images), CLASSES)
    return {"train": images - val, "val": val}


def write_class_folders(folder: Path, images: int) -> None:
    """Write ``<split>/<class>/*.png``."""
    picture = _picture()
    for split, count in counts(images).items():
        for number in range(count):
            _write(folder / split / f"class{number % CLASSES:02}" / f"{number:06}.png", picture)


def write_coco(folder: Path, images: int) -> None:
    """Write ``<split>/*.png`` and ``annotations/instances_<split>.json`` with three objects per image."""
    picture, draw = _picture(), np.random.default_rng(0)
    categories = [{"id": number + 1, "name": f"class{number:02}"} for number in range(CLASSES)]
    for split, count in counts(images).items():
        listed, objects = [], []
        for number in range(count):
            _write(folder / split / f"{number:06}.png", picture)
            listed.append({"id": number, "file_name": f"{number:06}.png", "height": SIDE, "width": SIDE})
            for x, y, w, h in draw.integers(1, SIDE // 2, (3, 4)).tolist():
                at = len(objects)
                polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
                objects.append(
                    {
                        "id": at, "image_id": number, "category_id": at % CLASSES + 1, "bbox": [x, y, w, h],
                        "area": w * h, "iscrowd": 0, "segmentation": [polygon],
                    }
                )  # fmt: skip
        content = {"images": listed, "annotations": objects, "categories": categories}
        _write(folder / "annotations" / f"instances_{split}.json", json.dumps(content).encode())


def write_label_maps(folder: Path, images: int) -> None:
    """Write ``images/<split>/*.png``, ``labels/<split>/*.png`` and ``classes.txt``."""
    picture, labels = _picture(), _label_map()
    for split, count in counts(images).items():
        for number in range(count):
            _write(folder / "images" / split / f"{number:06}.png", picture)
            _write(folder / "labels" / split / f"{number:06}.png", labels)
    _write(folder / "classes.txt", "\n".join(f"class{number:02}" for number in range(CLASSES)).encode())


DATA: dict[str, tuple[str, Callable[[Path, int], None]]] = {
    "classification": ("digits.transnext_atto", write_class_folders),
    "detection": ("shapes.retinanet_transxnet_atto", write_coco),
    "segmentation": ("shapes.semantic_fpn_transxnet_atto", write_label_maps),
}


def open_seconds(checkout: Path, recipe: str, folder: Path) -> float:
    """Return the seconds that opening and checking the images takes."""
    said = _python(checkout, "-c", OPEN, recipe, str(folder))
    return float(said.split()[-1])


def dry_run_seconds(checkout: Path, recipe: str, folder: Path) -> float:
    """Return the seconds of the whole command."""
    started = time.perf_counter()
    _python(checkout, "-m", "foveal.cli", "train", recipe, "--data", str(folder), "--dry-run")
    return time.perf_counter() - started


#: Commands that should answer at once, by what they show; words in capitals are replaced by paths.
COMMANDS = {
    "help": ["train", "--help"],
    "wrong option": ["train", "digits.transnext_atto", "--epoch", "3"],
    "wrong recipe": ["train", "digits.transnext_ato"],
    "recipes": ["train", "--list"],
    "models": ["models"],
    "predict": ["predict", "IMAGE", "--checkpoint", "CHECKPOINT"],
}


def command_seconds(checkout: Path, words: list[str]) -> float:
    """Return the seconds of a whole command, whatever its exit code."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "foveal.cli", *words], env=_environment(checkout), capture_output=True, check=False
    )
    return time.perf_counter() - started


def compare_commands(checkouts: list[Path], place: Path, rounds: int) -> dict[tuple[str, str], list[list[float]]]:
    """Return the seconds of each command, round by round, one per checkout."""
    paths = {"IMAGE": str(place / "image.png"), "CHECKPOINT": str(place / "run" / "best.pt")}
    _write(Path(paths["IMAGE"]), _picture())
    train = ("train", "digits.transnext_atto", "--epochs", "1", "--workers", "0", "--out", str(place / "run"))
    _python(checkouts[-1], "-m", "foveal.cli", *train)
    found: dict[tuple[str, str], list[list[float]]] = {("command", name): [] for name in COMMANDS}
    for number in range(rounds + 1):
        order = range(len(checkouts)) if number % 2 else range(len(checkouts))[::-1]
        for (_, name), measured in found.items():
            row = [0.0] * len(checkouts)
            for at in order:
                row[at] = command_seconds(checkouts[at], [paths.get(word, word) for word in COMMANDS[name]])
            measured.append(row)
    return {key: measured[1:] for key, measured in found.items()}


MEASURES = {"open": open_seconds, "dry-run": dry_run_seconds}


def compare(
    checkouts: list[Path], folders: dict[str, Path], measures: list[str], rounds: int
) -> dict[tuple[str, str], list[list[float]]]:
    """Return the seconds of each task and measure, round by round, one per checkout."""
    found: dict[tuple[str, str], list[list[float]]] = {(task, name): [] for task in folders for name in measures}
    for number in range(rounds + 1):
        order = range(len(checkouts)) if number % 2 else range(len(checkouts))[::-1]
        for (task, name), measured in found.items():
            row = [0.0] * len(checkouts)
            for at in order:
                row[at] = MEASURES[name](checkouts[at], DATA[task][0], folders[task])
            measured.append(row)
    return {key: measured[1:] for key, measured in found.items()}


def report(found: dict[tuple[str, str], list[list[float]]], names: list[str]) -> list[str]:
    """Return a table of median seconds, with the ratio of the last checkout to the first if there are two."""
    headings = [*names, "ratio"] if len(names) > 1 else names
    lines = ["".join([f"{'task':<16}{'measure':<14}", *(f"{heading:>12}" for heading in headings)])]
    for (task, measure), rows in found.items():
        medians = [statistics.median(column) for column in zip(*rows, strict=True)]
        cells = [f"{seconds:>10.2f} s" for seconds in medians]
        if len(names) > 1:
            cells.append(f"{statistics.median(row[-1] / row[0] for row in rows):>12.2f}")
        lines.append("".join([f"{task:<16}{measure:<14}", *cells]))
    return lines


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout of this repository to compare with")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--commands", action="store_true", help="time commands that should answer at once instead")
    given = parser.parse_args(words)
    checkouts = [*([] if given.before is None else [given.before.resolve()]), HERE]
    names = ["before", "here"][-len(checkouts) :]
    with tempfile.TemporaryDirectory() as place:
        if given.commands:
            found = compare_commands(checkouts, Path(place), given.rounds)
            print("\n".join([f"{given.rounds} rounds, medians", *report(found, names)]))
            return
        folders = {task: Path(place, task) for task in given.tasks}
        for task, folder in folders.items():
            DATA[task][1](folder, given.images)
        found = compare(checkouts, folders, given.measures, given.rounds)
    print(f"{given.images:,} images of {SIDE} x {SIDE} pixels per task, {given.rounds} rounds, medians")
    print("\n".join(report(found, names)))


def _python(checkout: Path, *words: str) -> str:
    """Run Python with the package of a checkout, and return what it printed."""
    done = subprocess.run([sys.executable, *words], env=_environment(checkout), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{checkout}: {done.stderr.strip()}")
    return done.stdout


def _environment(checkout: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(checkout / "src")}


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _picture() -> bytes:
    return _png(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))


def _label_map() -> bytes:
    return _png((np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % CLASSES).astype(np.uint8))


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


if __name__ == "__main__":
    main()
