"""The figures of a classifier on a set of images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from foveal.tasks.classification.answers import TopAnswers


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
        answers: the answer on every image; None for a mean over several evaluations.
    """

    images: int
    top1: float
    top_k: float
    loss: float
    images_per_second: float
    per_class: tuple[int, ...]
    broken: int = 0
    broken_names: tuple[str, ...] = ()
    answers: TopAnswers | None = field(default=None, compare=False, repr=False)

    @property
    def k(self) -> int:
        return telling_k(len(self.per_class))

    @property
    def counted_classes(self) -> int:
        """Number of classes that have an image."""
        return sum(count > 0 for count in self.per_class)

    def state(self) -> dict[str, Any]:
        """Return everything in plain types and tensors, for ``of``."""
        answers = None if self.answers is None else list(vars(self.answers).values())
        return {**vars(self), "answers": answers}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Score":
        """Return the score of a ``state``."""
        answers = None if state["answers"] is None else TopAnswers(*state["answers"])
        return cls(**{**state, "answers": answers})

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
