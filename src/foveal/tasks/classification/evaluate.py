"""Top-1, top-k and loss of a classifier, counted in one loop for training, evaluation and surveys."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.models import optimize
from foveal.tasks.classification.answers import TopAnswers
from foveal.tasks.classification.data import Images, match_classes, open_split
from foveal.tasks.classification.data.images import is_imagenet_classes
from foveal.tasks.classification.imagenet.sets import Labels, synsets
from foveal.tasks.classification.network import Classifier
from foveal.tasks.classification.score import Evaluation, Score, telling_k
from foveal.tasks.finished import Finished, Middle, files_digest
from foveal.tasks.network import best_device
from foveal.training.batching import Share
from foveal.training.config import Broken, InferencePrecision
from foveal.training.loading import Loader, Started, all_broken, continues, evaluation_loader
from foveal.training.processes import DTYPES, Processes, check_precision


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
        every: evaluate every n-th image only, if this process is alone.
    """

    batch_size: int = 64
    workers: int = 2
    processes: Processes | None = None
    device: torch.device | None = None
    precision: InferencePrecision = "fp32"
    folded: bool = False
    broken: Broken = "stop"
    calibration_images: int = 128
    every: int = 1

    @property
    def place(self) -> torch.device:
        if self.precision == "int8":
            return torch.device("cpu")
        return self.processes.device if self.processes else self.device or best_device()

    def loader(self, images: Images, start: Started | None = None) -> Loader:
        """Return a loader of this process's share of the images, or of what is left of it."""
        share = self.processes.share if self.processes else Share(0, self.every)
        return evaluation_loader(images, self.batch_size, share, self.workers, broken=self.broken, start=start)

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
        tops: target, most probable class and its probability of each image of a batch on the CPU.
        middle: the clock of the evaluation, and where its state is kept.
    """

    per_class: Tensor
    sums: dict[str, float] = field(default_factory=lambda: {"top1": 0.0, "top_k": 0.0, "loss": 0.0})
    broken: int = 0
    names: list[str] = field(default_factory=list)
    kept: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    tops: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    middle: Middle = field(default_factory=Middle)

    def state(self) -> dict[str, Any]:
        """Return what was counted so far, for ``going_on``."""
        return {"per_class": self.per_class, "sums": self.sums, "tops": self.top_rows()}

    @classmethod
    def going_on(cls, classes: int, middle: Middle) -> "Answers":
        """Return what was counted before the evaluation was stopped, or nothing."""
        if middle.state is None:
            return cls(torch.zeros(classes, dtype=torch.int64), middle=middle)
        found = middle.state
        return cls(found["per_class"], found["sums"], tops=[tuple(found["tops"])], middle=middle)

    def top_rows(self) -> list[Tensor]:
        """Return targets, most probable classes and their probabilities of all images counted, (N,) each."""
        empty = torch.empty(0, dtype=torch.int64)
        parts = [(empty, empty, torch.empty(0)), *self.tops]
        return [torch.cat(rows) for rows in zip(*parts, strict=True)]

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
            top1=totals["top1"] / count,
            top_k=totals["top_k"] / count,
            loss=totals["loss"] / count,
            images_per_second=count / self.middle.elapsed,
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
    middle: Middle | None = None,
) -> Answers:
    """Run ``network`` over this process's share of the images and count; every evaluation of a classifier does.

    Args:
        classes: number of classes, which is that of the logits that take part.
        labels: which logits take part, and the class of each folder; None if folder i is logit i.
        keep: keep all logits; otherwise memory does not grow with the number of images.
        on_batch: called with (done, total) after each batch.
        middle: where an evaluation that was stopped goes on, as the ``loader`` does, and is kept.
    """
    middle = Middle() if middle is None else middle
    answers = Answers.going_on(classes, middle)
    columns = None if labels is None or labels.columns is None else labels.columns.to(device)
    renumbered = None if labels is None else labels.targets.to(device)
    for done, (images, targets) in enumerate(loader, start=loader.batches_before + 1):
        with torch.no_grad():
            logits = network(images.to(device, non_blocking=True))
        targets = targets.to(device)
        targets = targets if renumbered is None else renumbered[targets]
        logits = logits if columns is None else logits[:, columns]
        answers.per_class += targets.bincount(minlength=classes).cpu()
        for name, value in batch_sums(logits, targets).items():
            answers.sums[name] += value
        best = logits.float().softmax(1).max(1)
        answers.tops.append((targets.cpu(), best.indices.cpu(), best.values.cpu()))
        if keep:
            answers.kept.append((logits.float().cpu(), targets.cpu()))
        middle.offer(answers.state, loader.progress)
        if on_batch is not None:
            on_batch(done, len(loader))
    answers.broken, answers.names = len(loader.progress().skipped), list(loader.broken)
    return answers


def score(
    classifier: Classifier,
    images: Images,
    labels: Labels | None = None,
    settings: EvaluationSettings = EvaluationSettings(),
    on_batch: Callable[[int, int], None] | None = None,
    middle: Middle | None = None,
) -> Score:
    """Return the figures of ``classifier`` on ``images``, with every answer; see ``count_answers``.

    Raises:
        FovealError: an image is broken, or the network cannot be run like this.
    """
    network = settings.network(classifier)
    classes = len(images.classes) if labels is None else len(labels.names)
    middle = middle if middle is not None and continues(images) else Middle()
    loader = settings.loader(images, middle.started)
    answers = count_answers(network, loader, settings.place, classes, labels, on_batch=on_batch, middle=middle)
    found = answers.score(settings.processes)
    rows = together_in_order([counted_indices(loader), *answers.top_rows()], settings.processes)
    return replace(found, answers=TopAnswers(*rows))


def finished_score(
    finished: Finished,
    part: Mapping[str, Any],
    classifier: Classifier,
    images: Images,
    labels: Labels | None,
    settings: EvaluationSettings,
    on_batch: Callable[[int, int], None] | None = None,
    *,
    answers: bool = True,
) -> Score:
    """Return what ``score`` does, with or without ``answers``, from what is kept of a part that is finished or was
    stopped, and keep it."""
    if finished.keeps:
        part = {**part, "images": files_digest(images.names, images.targets)}
    kept = finished.get(**part)
    if kept is not None:
        return Score.of(kept)
    found = score(classifier, images, labels, settings, on_batch, finished.middle(**part))
    found = found if answers else replace(found, answers=None)
    finished.put(found.state(), **part)
    return found


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
    indices, logits, targets = together_in_order([counted_indices(loader), logits, targets], processes)
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
    if images.multi_label != classifier.multi_label:
        raise FovealError(
            f"{classifier.name} gives several labels per image, and {folder} has class folders: pass the --data with "
            "val.csv."
            if classifier.multi_label
            else f"{classifier.name} gives one class per image, and {folder.parent} lists several labels: pass --data "
            "with class folders."
        )
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


def counted_indices(loader: Loader) -> Tensor:
    """Return the indices of the images that an evaluation has counted, in the order of their answers."""
    return torch.tensor([index for index in loader.order if index not in loader.left_out], dtype=torch.int64)


def together_in_order(rows: list[Tensor], processes: Processes | None) -> list[Tensor]:
    """Return the rows of all processes in the order of the images, on the CPU; the first tensor has their indices."""
    if processes is not None and processes.share.count > 1:
        whole = [processes.gather_rows(part, padding=-1) for part in rows]
        rows = [part[whole[0] >= 0] for part in whole]
    order = rows[0].argsort()
    return [part[order] for part in rows]
