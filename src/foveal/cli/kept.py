"""What ``foveal evaluate`` keeps in its ``--out`` folder while it runs, and what it says when it is stopped."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from foveal.cli.options import EvaluateOptions
from foveal.models.weights_file import WeightsFile
from foveal.tasks.finished import Finished, weights_digest
from foveal.training.processes import Processes


def kept_parts(
    options: EvaluateOptions, weights: WeightsFile | None, model: nn.Module, processes: Processes | None, **facts: Any
) -> Finished:
    """Return what is finished of this evaluation: of the same weights with the same ``facts`` in plain types."""
    if options.out is None:
        return Finished(processes=processes)
    settings = {name: getattr(options, name) for name in ("batch_size", "precision", "broken")}
    return Finished(options.out, {**settings, **facts, "weights": weights_digest(weights, model)}, processes)


def notices_of(finished: Finished) -> list[str]:
    """Return what was taken from the folder, and why nothing could be kept."""
    found = [f"{finished.failure.rstrip('.')}; so what is finished is not kept."] if finished.failure else []
    if finished.reused:
        parts = "1 part" if finished.reused == 1 else f"{finished.reused} parts"
        found.append(f"{parts} of this evaluation had been finished before: remove {finished.folder} to measure again.")
    return found


@contextlib.contextmanager
def going_on(out: Path | None) -> Iterator[None]:
    """Say, if Ctrl-C stops the block, whether the same command goes on."""
    try:
        yield
    except KeyboardInterrupt:
        kept = f"the same command goes on with what {out} holds" if out is not None else "without --out nothing is kept"
        raise KeyboardInterrupt(f"Stopped: {kept}") from None
