"""Try every cell of models x formats x precisions x shapes of ``foveal export``, and time what works.

    python benchmarks/deployment.py --models transnext_tiny,transxnet_s --out docs/deployment-matrix.md

Every export and every run is a process of its own with a time limit, so a cell that fails, hangs or needs too much
memory is a row. Weights are random. Files of one format, precision, shape and batch are timed in one process, call
after call with ConvNeXt-T in the same format and with ConvNeXt-T in eager PyTorch in fp32, so that every ratio compares
neighbours in time.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, astuple, dataclass, fields, replace
from datetime import date
from pathlib import Path

BASELINE, EAGER = "convnext_tiny", "eager"
FORMATS, PRECISIONS, SHAPES = ("onnx", "openvino", "torch", "aoti"), ("fp32", "bf16", "fp16"), ("fixed", "batch,size")
ENDINGS = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2", "aoti": ".pt2"}
HEADINGS = (
    "format",
    "precision",
    "shape",
    "batch",
    "result",
    "error",
    "eager ConvNeXt-T = 1",
    "ConvNeXt-T in the format = 1",
)


@dataclass(frozen=True)
class Cell:
    """One export and its figures; empty ones were not measured."""

    model: str
    format: str
    precision: str
    shape: str
    batch: int
    result: str = ""
    error: float | None = None
    operators: int | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    ratio_to_eager: float | None = None
    ratio_to_format: float | None = None

    @property
    def works(self) -> bool:
        return self.result == "works"

    def file(self, folder: Path) -> Path:
        """Where the file is exported to; one of any batch serves all batches."""
        batch = self.batch if self.shape == "fixed" else "any"
        return folder / f"{self.model}-{self.format}-{self.precision}-{batch}{ENDINGS[self.format]}"


def exported(cell: Cell, folder: Path, limit: float, size: int) -> Cell:
    """Export a cell in a process, and return it with what came of it."""
    words = ["--model", cell.model, "--no-pretrained", "--format", cell.format, "--precision", cell.precision]
    words += ["--size", str(size), "--out", str(cell.file(folder)), "--json"]
    words += ["--batch", str(cell.batch)] if cell.shape == "fixed" else ["--dynamic", cell.shape]
    done = run([sys.executable, "-m", "foveal.cli", "export", *words], limit)
    if isinstance(done, str):
        return replace(cell, result=done)
    (document,) = json.loads(done.stdout)
    return replace(
        cell,
        result="works",
        error=document["error"],
        operators=document["operators"],
        seconds=document["seconds"],
    )


def run(words: list[str], limit: float) -> "subprocess.CompletedProcess[str] | str":
    """Run a process for at most ``limit`` seconds; return it, or in words why it gave no answer."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return f"no answer in {limit:.0f} s"
    if done.returncode == 0:
        return done
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1].removeprefix("foveal: ") if lines else f"ended with code {done.returncode}"


def timed(cells: list[Cell], folder: Path, options: argparse.Namespace) -> list[Cell]:
    """Time files of one format, precision, shape and batch in one process, and return the cells with their speed."""
    if not options.rounds or not any(cell.works and cell.model != BASELINE for cell in cells):
        return cells
    task = {
        "files": {cell.model: str(cell.file(folder)) for cell in cells if cell.works},
        "batch": cells[0].batch,
        "size": options.size,
        "rounds": options.rounds,
        "threads": options.threads,
    }
    done = run([sys.executable, __file__, "--time", json.dumps(task)], options.limit)
    if isinstance(done, str):
        return [replace(cell, result=f"works, not timed: {done}") if cell.works else cell for cell in cells]
    seconds = json.loads(done.stdout.splitlines()[-1])
    return [with_speed(cell, seconds) if cell.works else cell for cell in cells]


def with_speed(cell: Cell, seconds: dict[str, list[float]]) -> Cell:
    """Return a cell with medians over all rounds, from seconds per call by subject."""
    from statistics import median

    def ratio(other: str) -> float | None:
        pairs = zip(seconds[other], seconds[cell.model]) if other in seconds else ()
        ratios = [theirs / ours for theirs, ours in pairs]
        return median(ratios) if ratios else None

    speed = cell.batch / median(seconds[cell.model])
    return replace(cell, images_per_second=speed, ratio_to_eager=ratio(EAGER), ratio_to_format=ratio(BASELINE))


def time_files(task: dict) -> None:
    """Print the seconds per call of every file and of eager ConvNeXt-T, as one line of JSON."""
    import numpy as np
    import timm
    import torch

    from foveal.bench.measure import interleave, stopwatch_for
    from foveal.export.torch_run import load
    from foveal.runtime import open_session

    torch.set_num_threads(task["threads"])
    shape = (task["batch"], 3, task["size"], task["size"])
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    eager, tensor = timm.create_model(BASELINE).eval(), torch.from_numpy(images)
    calls = {EAGER: lambda: eager(tensor)}
    for model, file in task["files"].items():
        path = Path(file)
        opened = load(path) if path.suffix == ".pt2" else open_session(path, threads=task["threads"])
        calls[model] = lambda opened=opened: opened.run(images)
    with torch.inference_mode():
        print(json.dumps(interleave(calls, task["rounds"], stopwatch_for("cpu"), least=0.2)))


def page(cells: list[Cell], facts: list[str]) -> str:
    """Return the cells as a page of Markdown: a table per model."""
    lines = ["# What can be exported, and how fast it is", "", *facts]
    for model in dict.fromkeys(cell.model for cell in cells):
        lines += ["", f"## {model}", "", "| " + " | ".join(HEADINGS) + " |", "|---" * len(HEADINGS) + "|"]
        for cell in cells:
            if cell.model == model:
                values = (cell.format, cell.precision, cell.shape, cell.batch, cell.result)
                figures = (shown(cell.error, ".0e"), shown(cell.ratio_to_eager), shown(cell.ratio_to_format))
                lines.append("| " + " | ".join(map(str, (*values, *figures))) + " |")
    return "\n".join(lines) + "\n"


def shown(value: float | None, how: str = ".2f") -> str:
    return "" if value is None else format(value, how)


def facts_of(options: argparse.Namespace) -> list[str]:
    """Say what was measured where, and by which command."""
    from importlib.metadata import version

    from foveal.bench.machine import device_name

    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime", "openvino", "timm"))
    words = f"--models {options.models} --rounds {options.rounds} --csv FILE"
    return [
        f"`python benchmarks/deployment.py {words}` on {date.today()}: {options.threads} threads of "
        f"{device_name('cpu')}, {options.size} pixels; {versions}. Random weights. The error is the largest difference "
        "from the network in fp32, relative to its largest output. Speeds are medians of ratios within one interleaved "
        "run, above 1 is faster: beside ConvNeXt-T in eager PyTorch in fp32, and beside ConvNeXt-T in the same format, "
        "precision and shape. Cells without a speed were tried, and not timed."
    ]


def read_rows(path: Path | None) -> list[Cell]:
    """Return the rows of an earlier run; none if there is no file."""
    if path is None or not path.is_file():
        return []
    kinds = {"batch": int, "operators": int} | dict.fromkeys(("model", "format", "precision", "shape", "result"), str)
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Cell(**{name: kinds.get(name, float)(text) if text else None for name, text in row.items()})
            for row in csv.DictReader(file)
        ]


def write_rows(path: Path, cells: list[Cell]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(field.name for field in fields(Cell))
        rows.writerows(astuple(cell) for cell in cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="transnext_tiny,transxnet_s")
    parser.add_argument("--formats", default=",".join(FORMATS), help="empty to write the tables of --csv only")
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--shapes", default="fixed;batch,size", help="separated by ;")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--rounds", type=int, default=7, help="0 only tries the exports")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--limit", type=float, default=900, help="seconds for an export, and for a run")
    parser.add_argument("--csv", type=Path, help="write all rows to this file, and go on with those that it has")
    parser.add_argument("--out", type=Path, help="write the tables to this file")
    parser.add_argument("--time", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.time:
        return time_files(json.loads(options.time))
    models = list(dict.fromkeys([*options.models.split(","), BASELINE]))
    cells = read_rows(options.csv)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for format in filter(None, options.formats.split(",")):
            for precision in options.precisions.split(","):
                for shape in options.shapes.split(";"):
                    known = {
                        cell.batch
                        for cell in cells
                        if (cell.model, cell.format, cell.precision, cell.shape)
                        == (models[0], format, precision, shape)
                    }
                    batches = [batch for batch in map(int, options.batches.split(",")) if batch not in known]
                    cells += measure(models, format, precision, shape, batches, folder, options)
                    if options.csv:
                        write_rows(options.csv, cells)
                    for file in folder.iterdir():  # of one row group alone: they are large
                        file.unlink()
    order = {model: number for number, model in enumerate(models)}
    cells.sort(key=lambda cell: (order[cell.model], FORMATS.index(cell.format), PRECISIONS.index(cell.precision)))
    text = page(cells, facts_of(options))
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    else:
        print(text)


def measure(
    models: list[str],
    format: str,
    precision: str,
    shape: str,
    batches: list[int],
    folder: Path,
    options: argparse.Namespace,
) -> list[Cell]:
    """Return the cells of all models in a format, precision and shape, for every batch."""
    done: list[Cell] = []
    made: dict[Path, Cell] = {}
    for batch in batches:
        group = []
        for model in models:
            cell = Cell(model, format, precision, shape, batch)
            file = cell.file(folder)
            if file not in made:
                made[file] = exported(cell, folder, options.limit, options.size)
            group.append(replace(made[file], batch=batch))
        done += timed(group, folder, options)
        for cell in done[-len(group) :]:
            print({name: value for name, value in asdict(cell).items() if value is not None}, file=sys.stderr)
    return done


if __name__ == "__main__":
    main()
