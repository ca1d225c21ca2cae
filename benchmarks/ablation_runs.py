"""Run ablations of the TransNeXt paper on handwritten digits, and write docs/ablation-runs/ from their results.

    python benchmarks/ablation_runs.py                    # the roadmap and tables 6 to 9, three seeds each: hours
    python benchmarks/ablation_runs.py --tables transnext.roadmap --out runs

What is finished is not repeated, so the same command also continues, and writes the page again.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import timm
import torch

HERE = Path(__file__).resolve().parents[1]
PAGE = HERE / "docs" / "ablation-runs"
TABLES = (
    "transnext.roadmap", "transnext.position_encoding", "transnext.conv_glu", "transnext.window_size",
    "transnext.token_mixers",
)  # fmt: skip
FILES = {"results.csv": ".csv", "ablation.png": ".png"}


def run(table: str, seeds: int, folder: Path) -> None:
    """Run what is missing of a table."""
    words = ["ablate", table, "--seeds", str(seeds), "--out", str(folder)]
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONPATH": str(HERE / "src")}
    subprocess.run([sys.executable, "-m", "foveal.cli", *words], env=environment, check=True)


def header(tables: list[str], seeds: int) -> str:
    machine = f"{os.cpu_count()} processors ({platform.machine()}), torch {torch.__version__.partition('+')[0]}"
    command = f"python benchmarks/ablation_runs.py --tables {' '.join(tables)} --seeds {seeds}"
    lines = [
        "# Ablations on handwritten digits\n",
        f"Written by `{command}` on {date.today()}: {machine}, timm {timm.__version__}.",
        "These are small forms of the networks on scikit-learn's digits, and say little about ImageNet;",
        "[how they are trained](../ablations.md#running-a-table). The same command runs other tables.\n",
    ]
    return "\n".join(lines)


def section(table: str, folder: Path) -> str:
    """Copy the files of a table's results beside the page, and return its part of the page."""
    for name, ending in FILES.items():
        shutil.copyfile(folder / name, PAGE / f"{table}{ending}")
    summary = (folder / "summary.md").read_text(encoding="utf-8")
    return f"{summary}\n![Top-1 of every row and seed]({table}.png)\n\nEvery run: [{table}.csv]({table}.csv)\n"


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=list(TABLES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of the runs")
    given = parser.parse_args(words)
    folders = {table: given.out / f"ablation.{table}" for table in given.tables}
    for table, folder in folders.items():
        run(table, given.seeds, folder)
    PAGE.mkdir(exist_ok=True)
    parts = [header(given.tables, given.seeds), *(section(table, folder) for table, folder in folders.items())]
    (PAGE / "README.md").write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
