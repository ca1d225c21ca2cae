"""The options of ``foveal tables``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from foveal.cli.console import Json

Format = Literal["text", "markdown", "csv"]


@dataclass(frozen=True, kw_only=True)
class TablesOptions:
    """The options of ``foveal tables``.

    Attributes:
        format: Text of 80 columns, where wide tables are cut into blocks; Markdown; or CSV of one table.
        count: Count parameters and multiply-adds of our networks again, by the rule of each paper, and compare.
        time: Measure throughput and memory of the networks of one table, ours and those that timm has, in one
            interleaved run, and show the ratios to the first of them beside the paper's. For the table of CUDA kernels:
            kernels against plain PyTorch.
        batch: Images per call of --time, 8 by default; per batch of --checkpoint, 64 by default.
        device: For --time and --checkpoint: cpu, cuda, cuda:1, ... Default: cpu for --time, the best one for
            --checkpoint.
        rounds: For --time: counted rounds, after two warm-up rounds; 7 by default.
        no_memory: For --time: do not measure memory, which on a CPU takes a separate process for each network.
        checkpoint: File of a classifier's weights to evaluate in the row of its network: best.pt of a run, or released
            ones. Sets whose folders --data lacks are left out.
        data: For --checkpoint: folder with val/<class>/ or another layout that `foveal evaluate` reads, and with
            imagenet-a, imagenet-r, sketch, imagenetv2-matched-frequency-format-val and imagenet-c for their columns.
        row: For --checkpoint: the row, by its name or its model; for a file that does not say which network it holds.
        workers: For --checkpoint: loading processes.
    """

    format: Format = "text"
    count: bool = False
    time: bool = False
    batch: int | None = None
    device: str | None = None
    rounds: int | None = None
    no_memory: bool = False
    checkpoint: Path | None = None
    data: Path | None = None
    row: str | None = None
    workers: int | None = None
    json: Json = False

    @property
    def measures(self) -> bool:
        return self.time or self.checkpoint is not None


def main(
    name: Annotated[Positional[str], arg(metavar="NAME")] = "",
    options: Annotated[TablesOptions, arg(name="")] = TablesOptions(),
) -> None:
    """The results tables of the TransNeXt and TransXNet papers: our networks, their competitors, all ablations.

    Without a NAME: the list of tables. The figures are the authors' and keep their digits; a question mark stands for
    one that could not be read. With --count the command fails if a count differs from a printed figure and the table
    gives no reason. With --time or --checkpoint figures measured here stand beside the authors'.

    Args:
        name: A table, or several as a shell pattern in quotes.
    """
    from foveal.cli.tables import run

    run(name, options)
