"""Top-1, top-5 and everything behind them."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.datasets import ImageFolder

from foveal.errors import FovealError
from foveal.models import optimize
from foveal.tasks.classification.data import check_classes, open_split
from foveal.tasks.classification.imagenet.sets import Labels
from foveal.tasks.classification.network import Classifier, best_device
from foveal.training.config import Precision
from foveal.training.loading import Loader, Share, evaluation_loader
from foveal.training.processes import DTYPES, Processes, check_precision


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


@dataclass(frozen=True)
class Score:
    """What remains of an evaluation when no image's answer is kept: accuracies in percent, mean cross entropy."""

    images: int
    top1: float
    top5: float
    loss: float
    images_per_second: float


@dataclass(frozen=True)
class Inference:
    """How a network is run over images, wherever they come from.

    Attributes:
        batch_size: images at a time, on each process.
        workers: loading processes beside each.
        processes: those that share the work; None for this one alone.
        device: of this process where it is alone; None takes the best.
        precision: what the network computes in; weights stay float32 unless ``folded``.
        folded: run the network as `foveal.optimize` makes it, its weights in ``precision`` too.
    """

    batch_size: int = 64
    workers: int = 2
    processes: Processes | None = None
    device: torch.device | None = None
    precision: Precision = "fp32"
    folded: bool = False

    @property
    def place(self) -> torch.device:
        return self.processes.device if self.processes else self.device or best_device()

    def loader(self, images: ImageFolder) -> Loader:
        """This process's share of the images, in order."""
        share = self.processes.share if self.processes else Share()
        return evaluation_loader(images, self.batch_size, share, self.workers)

    def network(self, classifier: Classifier) -> Callable[[Tensor], Tensor]:
        """The classifier's network on the device, ready to be called.

        Raises:
            FovealError: it cannot be folded, or the device does not compute in this precision.
        """
        check_precision(self.precision, self.place)
        dtype = DTYPES[self.precision]
        model = classifier.model.to(self.place).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.folded:
            return fold(model, dtype)
        mixed = self.precision != "fp32"

        def run(images: Tensor) -> Tensor:
            with torch.autocast(self.place.type, dtype, enabled=mixed):
                return model(images)

        return run


def evaluate(
    classifier: Classifier,
    data: Path,
    *,
    split: str = "val",
    batch_size: int = 64,
    workers: int = 2,
    device: torch.device | None = None,
    processes: Processes | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Run ``classifier`` over every image of ``data/split``, on ``device`` (None: the best one), and keep every answer.

    Several ``processes`` share the images, each taken once; all of them return the same, the whole.
    ``on_batch(done, total)`` is called after each batch.

    Raises:
        FovealError: the folder cannot be used, an image is broken, or the classes are not the classifier's.
    """
    images = open_split(data, split, classifier.fit.transform())
    check_split(classifier, images.classes, data / split)
    inference = Inference(batch_size, workers, processes, device)
    started = time.monotonic()
    batches = logits_of(inference.network(classifier), inference.loader(images), inference.place, on_batch)
    pairs = [(logits.float().cpu(), targets.cpu()) for logits, targets in batches]
    logits = torch.cat([torch.empty(0, len(images.classes)), *(pair[0] for pair in pairs)])
    targets = torch.cat([torch.empty(0, dtype=torch.int64), *(pair[1] for pair in pairs)])
    if processes is not None:
        logits, targets = (_in_order(rows, len(images), processes) for rows in (logits, targets))
    seconds = time.monotonic() - started
    sums = batch_sums(logits, targets)
    return Evaluation(
        **{name: total / len(targets) for name, total in sums.items()},
        probabilities=logits.softmax(1),
        targets=targets,
        paths=_names(images),
        classes=images.classes,
        images_per_second=len(targets) / seconds,
    )


def score(
    classifier: Classifier,
    images: ImageFolder,
    labels: Labels | None = None,
    inference: Inference = Inference(),
    on_batch: Callable[[int, int], None] | None = None,
) -> Score:
    """Run ``classifier`` over ``images`` and count, batch by batch: memory does not grow with their number.

    Args:
        labels: which logits take part, and what the folders of ``images`` stand for; None where folder i is logit i.

    Raises:
        FovealError: an image is broken, or the network cannot be run so.
    """
    network, loader, place = inference.network(classifier), inference.loader(images), inference.place
    columns, meaning = (None, None) if labels is None else (labels.columns, labels.targets.to(place))
    columns = columns if columns is None else columns.to(place)
    totals = {"images": 0.0, "top1": 0.0, "top5": 0.0, "loss": 0.0}
    started = time.monotonic()
    for logits, targets in logits_of(network, loader, place, on_batch):
        targets = targets if meaning is None else meaning[targets]
        logits = logits if columns is None else logits[:, columns]
        for name, value in {"images": len(targets), **batch_sums(logits, targets)}.items():
            totals[name] += value
    if inference.processes is not None:
        totals = inference.processes.sum(totals)
    count = int(totals.pop("images"))
    speed = count / (time.monotonic() - started)
    return Score(count, **{name: total / count for name, total in totals.items()}, images_per_second=speed)


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
    model: Callable[[Tensor], Tensor],
    loader: Loader,
    device: torch.device,
    on_batch: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """(logits, targets) of every batch, on ``device``, without gradients."""
    for done, (images, targets) in enumerate(loader, start=1):
        with torch.no_grad():
            logits = model(images.to(device, non_blocking=True))
        yield logits, targets.to(device)
        if on_batch is not None:
            on_batch(done, len(loader))


def fold(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """`foveal.optimize`, whose refusal becomes a sentence."""
    try:
        return optimize(model, dtype)
    except ValueError as error:
        raise FovealError(f"This network cannot be optimized ({error}): leave --optimize out.") from error


def check_split(classifier: Classifier, found: list[str], folder: Path) -> None:
    """Refuse class folders that are not the classifier's classes."""
    if classifier.trained_here:
        check_classes(found, classifier.classes, str(folder), "the checkpoint")
    elif len(found) != len(classifier.classes):
        raise FovealError(
            f"{folder} has {len(found)} classes and {classifier.name} knows {len(classifier.classes)}: "
            "pass a checkpoint that was trained on these classes."
        )


def _in_order(rows: Tensor, count: int, processes: Processes) -> Tensor:
    """The rows of all processes in the order of the images, on the CPU: process r has every n-th image from r on."""
    share = processes.share
    longest = -(-count // share.count)
    padded = torch.cat([rows, rows.new_zeros(longest - len(rows), *rows.shape[1:])])
    gathered = processes.accelerator.gather(padded.to(processes.device)).cpu()
    by_process = gathered.view(share.count, longest, *rows.shape[1:])
    return by_process.transpose(0, 1).flatten(0, 1)[:count]  # what was padded comes last


def _names(images: ImageFolder) -> list[str]:
    """One an image: the data's own, or the files of a torchvision folder."""
    names = getattr(images, "names", None)
    return [path for path, _ in images.samples] if names is None else list(names)
