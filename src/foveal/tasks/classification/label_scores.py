"""The figures of a network that gives any number of labels: average precision by class, its mean, F1 and loss."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.runtime.guesses import THRESHOLD
from foveal.tasks.classification.data import Images
from foveal.tasks.classification.evaluate import EvaluationSettings, counted_indices, together_in_order
from foveal.tasks.classification.network import Classifier
from foveal.tasks.finished import Finished, Middle, files_digest
from foveal.training.loading import Loader, all_broken
from foveal.training.processes import Processes


def average_precision(scores: Tensor, targets: Tensor) -> float | None:
    """Return the average precision of a ranking, from 0 to 1; None if nothing in it is right.

    The sum over all thresholds of the gain in recall times the precision there, without interpolation; equal scores
    share a threshold. scikit-learn's ``average_precision_score`` is the same.

    Args:
        scores: (N,).
        targets: (N,) bool, what is right.
    """
    right = int(targets.sum())
    if not right:
        return None
    order = scores.argsort(descending=True)
    ranked, hits = scores[order], targets[order].double().cumsum(0)
    last = torch.cat([ranked[1:] != ranked[:-1], torch.ones(1, dtype=torch.bool)])  # of those with equal scores
    hits, counts = hits[last], torch.arange(1, len(ranked) + 1)[last]
    gains = torch.diff(hits, prepend=torch.zeros(1, dtype=hits.dtype))
    return float((gains * hits / counts).sum() / right)


def micro_f1(found: Tensor, targets: Tensor) -> Tensor:
    """Return the F1 of all labels of all images together, from 0 to 1; 1 if there are none and none was found.

    Args:
        found: (N, K) bool, the labels that a network gives.
        targets: (N, K) bool, those that are right.
    """
    both, either = (found & targets).sum(), found.sum() + targets.sum()
    return torch.where(either > 0, 2 * both / either.clamp(min=1), 1.0)


@dataclass(frozen=True)
class LabelScore:
    """The figures of an evaluation.

    Attributes:
        images: images counted.
        precisions: average precision of each class in percent; None for one without an image.
        per_class: images that have each label.
        f1: micro F1 in percent, of the labels with a probability above 0.5.
        loss: mean binary cross entropy over images and classes.
        images_per_second: over the whole evaluation, loading included.
        broken, broken_names: images that could not be read and were left out.
    """

    images: int
    precisions: tuple[float | None, ...]
    per_class: tuple[int, ...]
    f1: float
    loss: float
    images_per_second: float
    broken: int = 0
    broken_names: tuple[str, ...] = ()

    @property
    def scored_classes(self) -> int:
        """Number of classes that have an image."""
        return sum(precision is not None for precision in self.precisions)

    @property
    def mean(self) -> float:
        """Mean average precision over the classes that have an image, in percent; 0 if none has."""
        return fmean([found for found in self.precisions if found is not None] or [0.0])

    def figures(self) -> dict[str, float]:
        """Return the figures under their names: ``{"map": 91.5, "f1": 88.0, "loss": 0.12}``."""
        return {"map": self.mean, "f1": self.f1, "loss": self.loss}

    def state(self) -> dict[str, Any]:
        """Return everything in plain types, for ``of``."""
        return dict(vars(self))

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "LabelScore":
        """Return the score of a ``state``."""
        return cls(**state)


@dataclass
class _Rows:
    """Logits and targets of the images that this process has counted, batch by batch on the CPU."""

    classes: int
    batches: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def together(self) -> list[Tensor]:
        empty = torch.empty(0, self.classes)
        return [torch.cat(rows) for rows in zip((empty, empty), *self.batches, strict=True)]


def score_labels(
    network: Callable[[Tensor], Tensor],
    loader: Loader,
    device: torch.device,
    classes: int,
    processes: Processes | None = None,
    on_batch: Callable[[int, int], None] | None = None,
    middle: Middle | None = None,
) -> LabelScore:
    """Run ``network`` over this process's share of the images, and return the figures of all, equal on every process.

    Args:
        on_batch: called with (done, total) after each batch.
        middle: where an evaluation that was stopped goes on, as the ``loader`` does, and is kept.

    Raises:
        FovealError: no image could be read.
    """
    middle = Middle() if middle is None else middle
    rows = _Rows(classes, [] if middle.state is None else [tuple(middle.state["rows"])])
    for done, (images, targets) in enumerate(loader, start=loader.batches_before + 1):
        with torch.no_grad():
            logits = network(images.to(device, non_blocking=True))
        rows.batches.append((logits.float().cpu(), targets.cpu()))
        middle.offer(lambda: {"rows": rows.together()}, loader.progress)
        if on_batch is not None:
            on_batch(done, len(loader))
    _, logits, targets = together_in_order([counted_indices(loader), *rows.together()], processes)
    counts, names = {"broken": float(len(loader.progress().skipped))}, list(loader.broken)
    if processes is not None:
        counts, names = processes.sum(counts), processes.gather_objects(names)
    if not len(logits):
        raise all_broken(names)
    right = targets > THRESHOLD
    precisions = [average_precision(*columns) for columns in zip(logits.T, right.T, strict=True)]
    return LabelScore(
        images=len(logits),
        precisions=tuple(None if found is None else 100 * found for found in precisions),
        per_class=tuple(right.sum(0).tolist()),
        f1=100 * micro_f1(logits > 0, right).item(),  # a logit of 0 is a probability of 0.5
        loss=F.binary_cross_entropy_with_logits(logits, targets).item(),
        images_per_second=len(logits) / middle.elapsed,
        broken=int(counts["broken"]),
        broken_names=tuple(sorted(names)),
    )


def finished_label_score(
    finished: Finished,
    part: Mapping[str, Any],
    classifier: Classifier,
    images: Images,
    settings: EvaluationSettings,
    on_batch: Callable[[int, int], None] | None = None,
) -> LabelScore:
    """Return the figures of ``classifier`` on ``images``, from what is kept of a part that is finished or was stopped,
    and keep them."""
    if finished.keeps:
        part = {**part, "images": files_digest(images.names, images.answers())}
    kept = finished.get(**part)
    if kept is not None:
        return LabelScore.of(kept)
    middle = finished.middle(**part)
    network, loader = settings.network(classifier), settings.loader(images, middle.started)
    found = score_labels(network, loader, settings.place, len(images.classes), settings.processes, on_batch, middle)
    finished.put(found.state(), **part)
    return found
