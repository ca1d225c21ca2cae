"""How long the rest of a table takes, from the runs that have ended and those that are under way."""

from collections.abc import Iterable, Mapping
from statistics import fmean

from foveal.ablation.plan import SeedRun
from foveal.ablation.results import Result


def seconds_left(
    unfinished: Iterable[SeedRun],
    results: Iterable[Result],
    under_way: Mapping[SeedRun, tuple[float, float]],
    jobs: int,
) -> float | None:
    """Estimate the time until all runs have ended.

    A run takes as long as finished runs of its row did; of a row without any, as long as all finished runs on average;
    before the first has ended, as long as those under way will at their present speed.

    Args:
        unfinished: the runs that have not ended, those under way included.
        results: of the runs that have.
        under_way: of each run that is trained now, the share that is done and the seconds that it has taken.
        jobs: runs that are trained at a time.

    Returns:
        Seconds; None while nothing is known.
    """
    taken: dict[str, list[float]] = {}
    for result in results:
        taken.setdefault(result.row, []).append(result.seconds)
    usual = [fmean(seconds) for seconds in taken.values()] or [
        seconds / share for share, seconds in under_way.values() if share > 0
    ]
    if not usual:
        return None
    left = {run: fmean(taken.get(run.row, usual)) * (1 - under_way.get(run, (0.0, 0.0))[0]) for run in unfinished}
    return sum(left.values()) / max(1, min(jobs, len(left)))
