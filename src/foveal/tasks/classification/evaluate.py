"""Top-1, top-5 and everything behind them."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.tasks.classification.data import check_classes, open_split
from foveal.tasks.classification.network import Classifier, best_device
from foveal.training.loading import Loader, Share, evaluation_loader


@dataclass(frozen=True)
class Evaluation:
    """What a classifier said about N images of K classes. Tensors are on the CPU, in the order of ``paths``.

    Attributes:
        top1, top5: accuracy in percent; with fewer than 5 classes top-5 asks for all of them.
        loss: mean cross entropy.
        probabilities: (N, K) float32.
        targets: (N,) int64, the true classes.
        paths: the image files.
        classes: K names.
        images_per_second: over the whole evaluation, loading included.
    """

    top1: float
    top5: float
    loss: float
    probabilities: Tensor
    targets: Tensor
    paths: list[str]
    classes: list[str]
    images_per_second: float

    @property
    def predictions(self) -> Tensor:
        """(N,) int64: the most probable class of each image."""
        return self.probabilities.argmax(1)

    @property
    def confusion(self) -> Tensor:
        """(K, K) int64: images of true class i that were taken for class j."""
        count = len(self.classes)
        return torch.bincount(self.targets * count + self.predictions, minlength=count**2).view(count, count)


def evaluate(
    classifier: Classifier,
    data: Path,
    *,
    split: str = "val",
    batch_size: int = 64,
    workers: int = 2,
    device: torch.device | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Run ``classifier`` over every image of ``data/split``, on ``device`` (None: the best one).

    ``on_batch(done, total)`` is called after each batch.

    Raises:
        FovealError: the folder cannot be used, an image is broken, or the classes are not the classifier's.
    """
    images = open_split(data, split, classifier.fit.transform())
    _check_classes(classifier, images.classes, data / split)
    device = device or best_device()
    loader = evaluation_loader(images, batch_size, Share(), workers)
    started = time.monotonic()
    logits, targets = _concatenate(classifier.model.to(device).eval(), loader, device, on_batch)
    seconds = time.monotonic() - started
    sums = batch_sums(logits, targets)
    return Evaluation(
        **{name: total / len(targets) for name, total in sums.items()},
        probabilities=logits.softmax(1),
        targets=targets,
        paths=[path for path, _ in images.samples],
        classes=images.classes,
        images_per_second=len(targets) / seconds,
    )


def batch_sums(logits: Tensor, targets: Tensor) -> dict[str, float]:
    """Sums over a batch: 100 for each image that top-1 and top-5 get right, and its cross entropy.

    Args:
        logits: (N, K).
        targets: (N,) class indices.
    """
    logits = logits.float()
    best = logits.topk(min(5, logits.shape[1]), dim=1).indices == targets[:, None]
    return {
        "top1": 100.0 * best[:, 0].sum().item(),
        "top5": 100.0 * best.any(1).sum().item(),
        "loss": F.cross_entropy(logits, targets, reduction="sum").item(),
    }


def logits_of(
    model: nn.Module, loader: Loader, device: torch.device, on_batch: Callable[[int, int], None] | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """(logits, targets) of every batch, on ``device``, without gradients."""
    for done, (images, targets) in enumerate(loader, start=1):
        with torch.no_grad():
            logits = model(images.to(device, non_blocking=True))
        yield logits, targets.to(device)
        if on_batch is not None:
            on_batch(done, len(loader))


def _concatenate(
    model: nn.Module, loader: Loader, device: torch.device, on_batch: Callable[[int, int], None] | None
) -> tuple[Tensor, Tensor]:
    logits, targets = zip(
        *((a.float().cpu(), b.cpu()) for a, b in logits_of(model, loader, device, on_batch)), strict=True
    )
    return torch.cat(logits), torch.cat(targets)


def _check_classes(classifier: Classifier, found: list[str], folder: Path) -> None:
    if classifier.trained_here:
        check_classes(found, classifier.classes, str(folder), "the checkpoint")
    elif len(found) != len(classifier.classes):
        raise FovealError(
            f"{folder} has {len(found)} classes and {classifier.name} knows {len(classifier.classes)}: "
            "pass a checkpoint that was trained on these classes."
        )
