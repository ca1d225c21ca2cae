"""Top-1, top-5 and everything behind them."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.models import optimize
from foveal.tasks.classification.data import Images, match_classes, open_split
from foveal.tasks.classification.imagenet.sets import Labels, synsets
from foveal.tasks.classification.network import Classifier
from foveal.tasks.network import best_device
from foveal.training.batching import Share
from foveal.training.config import Broken, Precision
from foveal.training.loading import Loader, all_broken, evaluation_loader
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
    broken: int = 0
    """Images that could not be read and were left out."""
    broken_names: tuple[str, ...] = ()
    """What they are called."""


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
        broken: what an image that cannot be read does: "stop" the evaluation, or "skip" itself and be counted.
    """

    batch_size: int = 64
    workers: int = 2
    processes: Processes | None = None
    device: torch.device | None = None
    precision: Precision = "fp32"
    folded: bool = False
    broken: Broken = "stop"

    @property
    def place(self) -> torch.device:
        return self.processes.device if self.processes else self.device or best_device()

    def loader(self, images: Images) -> Loader:
        """This process's share of the images."""
        share = self.processes.share if self.processes else Share()
        return evaluation_loader(images, self.batch_size, share, self.workers, broken=self.broken)

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
    broken: Broken = "stop",
    on_batch: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Run ``classifier`` over every image of ``data/split``, on ``device`` (None: the best one), and keep every answer.

    Several ``processes`` share the images, each taken once; all of them return the same, the whole. A ``broken`` image
    is the end, or with "skip" missing in what is returned. ``on_batch(done, total)`` is called after each batch.

    Raises:
        FovealError: the images cannot be used, one is broken, or the classes are not the classifier's.
    """
    images = open_split(data, split, classifier.fit.transform())
    check_split(classifier, images, data / split)
    inference = Inference(batch_size, workers, processes, device, broken=broken)
    loader = inference.loader(images)
    started = time.monotonic()
    batches = logits_of(inference.network(classifier), loader, inference.place, on_batch)
    pairs = [(logits.float().cpu(), targets.cpu()) for logits, targets in batches]
    logits = torch.cat([torch.empty(0, len(images.classes)), *(pair[0] for pair in pairs)])
    targets = torch.cat([torch.empty(0, dtype=torch.int64), *(pair[1] for pair in pairs)])
    indices = torch.tensor([i for i in loader.order if i not in loader.left_out], dtype=torch.int64)
    indices, logits, targets = _together_in_order(indices, logits, targets, processes)
    if not len(targets):
        raise all_broken(loader.broken)
    seconds = time.monotonic() - started
    sums = batch_sums(logits, targets)
    return Evaluation(
        **{name: total / len(targets) for name, total in sums.items()},
        probabilities=logits.softmax(1),
        targets=targets,
        paths=[images.names[i] for i in indices.tolist()],
        classes=images.classes,
        images_per_second=len(targets) / seconds,
    )


def score(
    classifier: Classifier,
    images: Images,
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
    totals["broken"], names = float(loader.skipped), loader.broken
    if inference.processes is not None:
        totals, names = inference.processes.sum(totals), inference.processes.gather_objects(names)
    count, broken = int(totals.pop("images")), int(totals.pop("broken"))
    if not count:
        raise all_broken(names)
    speed = count / (time.monotonic() - started)
    means = {name: total / count for name, total in totals.items()}
    return Score(count, **means, images_per_second=speed, broken=broken, broken_names=tuple(sorted(names)))


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


def check_split(classifier: Classifier, images: Images, folder: Path) -> None:
    """Number the images' classes as the classifier does; refuse those that it does not know."""
    known = list(synsets("imagenet_1k"))
    if classifier.trained_here:
        match_classes(images, classifier.classes, str(folder), "the checkpoint")
    elif len(images.classes) != len(classifier.classes):
        raise FovealError(
            f"{folder} has {len(images.classes)} classes and {classifier.name} knows {len(classifier.classes)}: "
            "pass a checkpoint that was trained on these classes."
        )
    elif set(images.classes) == set(known):
        images.sort_classes(known)  # released weights have ImageNet's order


def _together_in_order(
    indices: Tensor, logits: Tensor, targets: Tensor, processes: Processes | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The rows of all processes in the order of the images, on the CPU."""
    rows = [indices, logits, targets]
    if processes is not None and processes.share.count > 1:
        whole = [processes.gather_rows(part, padding=-1) for part in rows]
        rows = [part[whole[0] >= 0] for part in whole]
    order = rows[0].argsort()
    return rows[0][order], rows[1][order], rows[2][order]
