"""The papers' ablations, run: every row of a table with several seeds, and what comes of them."""

from foveal.ablation.plan import SeedRun, TableRun
from foveal.ablation.results import Result
from foveal.ablation.summary import Summary, summarise

__all__ = ["Result", "SeedRun", "Summary", "TableRun", "summarise"]
