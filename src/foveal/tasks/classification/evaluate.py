"""Top-1, top-k and loss of a classifier, counted in one loop for training, evaluation and surveys."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.models import optimize
from foveal.tasks.classification.data import Images, match_classes, open_split
from foveal.tasks.classification.data.images import is_imagenet_classes
from foveal.tasks.classification.imagenet.sets import Labels, synsets
from foveal.tasks.classification.network import Classifier
from foveal.tasks.network import best_device
from foveal.training.batching import Share
from foveal.training.config import Broken, InferencePrecision
from foveal.training.loading import Loader, all_broken, evaluation_loader
from foveal.training.processes import DTYPES, Processes, check_precision


def telling_k(classes: int) -> int:
    """Return the k of the top-k accuracy that is reported beside top-1: 5, or less if that would be 100 % whatever the
    network answers. With two classes it is 1, and top-1 is all that can be said."""
    return max(min(5, classes - 1), 1)


@dataclass(frozen=True)
class Score:
    """The figures of an evaluation: accuracies in percent, mean cross entropy, and how many images they are of.

    Attributes:
        images: images counted.
        top1, top_k: accuracy in percent; ``k`` is the k of ``top_k`` (see ``telling_k``).
        loss: mean cross entropy.
        images_per_second: over the whole evaluation, loading included.
        per_class: images counted of each class; accuracies say nothing about a class that has none.
        broken, broken_names: images that could not be read and were left out.
    """

    images: int
    top1: float
    top_k: float
    loss: float
    images_per_second: float
    per_class: tuple[int, ...]
    broken: int = 0
    broken_names: tuple[str, ...] = ()

    @property
    def k(self) -> int:
        return telling_k(len(self.per_class))

    @property
    def counted_classes(self) -> int:
        """Number of classes that have an image."""
        return sum(count > 0 for count in self.per_class)

    def accuracies(self) -> dict[str, float]:
        """Return top-1 and top-k under their names: ``{"top1": 82.5, "top5": 96.1}``."""
        return {"top1": self.top1, **({f"top{self.k}": self.top_k} if self.k > 1 else {})}


@dataclass(frozen=True, kw_only=True)
class Evaluation(Score):
    """The figures and the answers of a classifier on N images of K classes. Tensors are on the CPU, in the order of
    ``paths``.

    Attributes:
        probabilities: (N, K) float32.
        targets: (N,) int64, the true classes.
        paths: the image files.
        classes: K names.
    """

    probabilities: Tensor
    targets: Tensor
    paths: list[str]
    classes: list[str]

    @property
    def predictions(self) -> Tensor:
        """(N,) int64: the most probable class of each image."""
        return self.probabilities.argmax(1)

    @property
    def confusion(self) -> Tensor:
        """(K, K) int64: number of images of true class i that were classified as class j."""
        count = len(self.classes)
        return torch.bincount(self.targets * count + self.predictions, minlength=count**2).view(count, count)


@dataclass(frozen=True)
class EvaluationSettings:
    """How a network is run over images, whatever their source.

    Attributes:
        batch_size: images per batch on each process.
        workers: loading processes per process.
        processes: the processes that share the work; None for this one alone.
        device: the device if this process is alone; None selects the best one.
        precision: precision of the computation; weights stay float32 unless ``folded``. With int8, classifiers are
            those of ``int8.quantized``, and the device is the CPU.
        folded: run the network that ``foveal.optimize`` returns, with its weights in ``precision`` too.
        broken: "stop" at an image that cannot be read, or "skip" and count it.
        calibration_images: number of images to calibrate int8 on.
    """

    batch_size: int = 64
    workers: int = 2
    processes: Processes | None = None
    device: torch.device | None = None
    precision: InferencePrecision = "fp32"
    folded: bool = False
    broken: Broken = "stop"
    calibration_images: int = 128

    @property
    def place(self) -> torch.device:
        if self.precision == "int8":
            return torch.device("cpu")
        return self.processes.device if self.processes else self.device or best_device()

    def loader(self, images: Images) -> Loader:
        """Return a loader of this process's share of the images."""
        share = self.processes.share if self.processes else Share()
        return evaluation_loader(images, self.batch_size, share, self.workers, broken=self.broken)

    def network(self, classifier: Classifier) -> Callable[[Tensor], Tensor]:
        """Return the classifier's network on the device, ready to be called.

        Raises:
            FovealError: it cannot be folded, or the device does not support this precision.
        """
        check_precision(self.precision, self.place)
        if self.precision == "int8":
            return classifier.model
        dtype = DTYPES[self.precision]
        model = classifier.model.to(self.place).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.folded:
            return fold(model, dtype)
        mixed = self.precision != "fp32"

        def run(images: Tensor) -> Tensor:
            with torch.autocast(self.place.type, dtype, enabled=mixed):
                return model(images)

        return run


@dataclass
class Answers:
    """The counts of this process over its share of the images.

    Attributes:
        per_class: number of images counted of each class, (K,) int64.
        sums: over these images, see ``batch_sums``.
        broken: how many images were left out; ``names``: their names.
        kept: logits and targets of each batch on the CPU, if they are kept.
        started: when the evaluation began.
    """

    per_class: Tensor
    sums: dict[str, float] = field(default_factory=lambda: {"top1": 0.0, "top_k": 0.0, "loss": 0.0})
    broken: int = 0
    names: list[str] = field(default_factory=list)
    kept: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def score(self, processes: Processes | None = None) -> Score:
        """Return the figures over all ``processes``, equal on each. Raises FovealError if no image could be read."""
        totals, names, per_class = {"broken": float(self.broken), **self.sums}, self.names, self.per_class
        if processes is not None:
            totals, names = processes.sum(totals), processes.gather_objects(names)
            per_class = processes.sum_rows(per_class.double()).long()
        count, broken = int(per_class.sum()), int(totals.pop("broken"))
        if not count:
            raise all_broken(names)
        return Score(
            images=count,
            **{name: total / count for name, total in totals.items()},
            images_per_second=count / (time.monotonic() - self.started),
            per_class=tuple(per_class.tolist()),
            broken=broken,
            broken_names=tuple(sorted(names)),
        )


def count_answers(
    network: Callable[[Tensor], Tensor],
    loader: Loader,
    device: torch.device,
    classes: int,
    labels: Labels | None = None,
    keep: bool = False,
    on_batch: Callable[[int, int], None] | None = None,
) -> Answers:
    """Run ``network`` over this process's share of the images and count; every evaluation of a classifier does.

    Args:
        classes: number of classes, which is that of the logits that take part.
        labels: which logits take part, and the class of each folder; None if folder i is logit i.
        keep: keep all logits; otherwise memory does not grow with the number of images.
        on_batch: called with (done, total) after each batch.
    """
    answers, before = Answers(torch.zeros(classes, dtype=torch.int64)), loader.skipped
    columns = None if labels is None or labels.columns is None else labels.columns.to(device)
    renumbered = None if labels is None else labels.targets.to(device)
    for done, (images, targets) in enumerate(loader, start=1):
        with torch.no_grad():
            logits = network(images.to(device, non_blocking=True))
        targets = targets.to(device)
        targets = targets if renumbered is None else renumbered[targets]
        logits = logits if columns is None else logits[:, columns]
        answers.per_class += targets.bincount(minlength=classes).cpu()
        for name, value in batch_sums(logits, targets).items():
            answers.sums[name] += value
        if keep:
            answers.kept.append((logits.float().cpu(), targets.cpu()))
        if on_batch is not None:
            on_batch(done, len(loader))
    answers.broken, answers.names = loader.skipped - before, list(loader.broken)
    return answers


def score(
    classifier: Classifier,
    images: Images,
    labels: Labels | None = None,
    settings: EvaluationSettings = EvaluationSettings(),
    on_batch: Callable[[int, int], None] | None = None,
) -> Score:
    """Return the figures of ``classifier`` on ``images``; see ``count_answers``.

    Raises:
        FovealError: an image is broken, or the network cannot be run like this.
    """
    network = settings.network(classifier)
    classes = len(images.classes) if labels is None else len(labels.names)
    answers = count_answers(network, settings.loader(images), settings.place, classes, labels, on_batch=on_batch)
    return answers.score(settings.processes)


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
    """Run ``classifier`` over every image of ``data/split`` on ``device`` (None: the best one), and keep every answer.

    Several ``processes`` share the images, each counted once; all of them return the same, the whole. A ``broken``
    image is an error, or with "skip" left out. ``on_batch(done, total)`` is called after each batch.

    Raises:
        FovealError: the images cannot be used, one is broken, or the classes are not the classifier's.
    """
    images = open_split(data, split, classifier.fit.transform(), classifier.held_out)
    check_split(classifier, images, data / split)
    settings = EvaluationSettings(batch_size, workers, processes, device, broken=broken)
    loader = settings.loader(images)
    network, classes = settings.network(classifier), len(images.classes)
    answers = count_answers(network, loader, settings.place, classes, keep=True, on_batch=on_batch)
    logits = torch.cat([torch.empty(0, classes), *(kept[0] for kept in answers.kept)])
    targets = torch.cat([torch.empty(0, dtype=torch.int64), *(kept[1] for kept in answers.kept)])
    indices = torch.tensor([i for i in loader.order if i not in loader.left_out], dtype=torch.int64)
    indices, logits, targets = _together_in_order(indices, logits, targets, processes)
    paths = [images.names[i] for i in indices.tolist()]
    figures = vars(answers.score(processes))
    return Evaluation(**figures, probabilities=logits.softmax(1), targets=targets, paths=paths, classes=images.classes)


def batch_sums(logits: Tensor, targets: Tensor) -> dict[str, float]:
    """Return sums over a batch: 100 per image that top-1 and top-k classify correctly, and the cross entropy.

    Args:
        logits: (N, K); k follows from K, see ``telling_k``.
        targets: (N,) class indices.
    """
    logits = logits.float()
    best = logits.topk(telling_k(logits.shape[1]), dim=1).indices == targets[:, None]
    return {
        "top1": 100.0 * best[:, 0].sum().item(),
        "top_k": 100.0 * best.any(1).sum().item(),
        "loss": F.cross_entropy(logits, targets, reduction="sum").item(),
    }


def fold(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return ``foveal.optimize(model, dtype)``. Raises FovealError if the network cannot be optimised."""
    try:
        return optimize(model, dtype)
    except ValueError as error:
        raise FovealError(f"This network cannot be optimized ({error}): leave --optimize out.") from error


def check_split(classifier: Classifier, images: Images, folder: Path) -> None:
    """Number the classes of images as the classifier does; some may have no image.

    Raises:
        FovealError: there are images of classes that it does not know.
    """
    known = list(synsets("imagenet_1k"))
    if classifier.trained_here:
        match_classes(images, classifier.classes, str(folder), "the checkpoint")
        images.upright = not is_imagenet_classes(classifier.classes)
    elif len(classifier.classes) == len(known) and set(images.classes) <= set(known):
        images.sort_classes(known)  # released weights have ImageNet's order
    elif len(images.classes) != len(classifier.classes):
        raise FovealError(
            f"{folder} has {len(images.classes)} classes and {classifier.name} knows {len(classifier.classes)}: "
            "pass a checkpoint that was trained on these classes."
        )


def _together_in_order(
    indices: Tensor, logits: Tensor, targets: Tensor, processes: Processes | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows of all processes in the order of the images, on the CPU."""
    rows = [indices, logits, targets]
    if processes is not None and processes.share.count > 1:
        whole = [processes.gather_rows(part, padding=-1) for part in rows]
        rows = [part[whole[0] >= 0] for part in whole]
    order = rows[0].argsort()
    return rows[0][order], rows[1][order], rows[2][order]
