"""The losses of classifiers: of one class per image, and of any number of labels; with balanced weights.

With N images, K classes, logits z and targets t (N, K), where mixup and label smoothing have been applied to t:

- one class: ``-1/N sum_i sum_c w_c t_ic log softmax(z_i)_c``, PyTorch's cross entropy of class probabilities;
- labels: ``-1/(NK) sum_i sum_c w_c t_ic log s_ic + (1 - t_ic) log(1 - s_ic)``, with s the sigmoid of z.

Without weights w is 1. The sums are divided by the number of images and not by that of their weights, so the loss of
an image does not depend on the others of its batch; over a balanced data set the weights are 1 on average.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class ClassLoss:
    """The loss of one class per image.

    Attributes:
        smoothing: share of a target that is spread over all classes, if mixup has not done it.
        weights: (K,), or None.
    """

    smoothing: float = 0.0
    weights: Tensor | None = None

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over images.

        Args:
            logits: (N, K).
            targets: (N,) classes, or (N, K) probabilities of mixup.
        """
        smoothing = self.smoothing if targets.ndim == 1 else 0.0
        if self.weights is None:
            return F.cross_entropy(logits, targets, label_smoothing=smoothing)
        if targets.ndim == 1:
            targets = F.one_hot(targets, logits.shape[1]).to(logits)
        return F.cross_entropy(logits, targets, weight=self.weights.to(logits), label_smoothing=smoothing)


@dataclass(frozen=True)
class LabelLoss:
    """The loss of any number of labels per image.

    Attributes:
        smoothing: e moves each target to ``t (1 - e) + e / 2``, if mixup has not done it.
        weights: (K,) of the images that have a label, or None.
    """

    smoothing: float = 0.0
    weights: Tensor | None = None

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over images and classes, of logits and targets (N, K)."""
        targets = targets * (1 - self.smoothing) + self.smoothing / 2
        weights = None if self.weights is None else self.weights.to(logits)
        return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights)


def balanced_class_weights(targets: Sequence[int], classes: int) -> Tensor:
    """Return ``n / (K n_c)`` for K classes with n_c of n images, as scikit-learn's ``compute_class_weight`` does; 0 for
    a class without an image, which does not count in K."""
    counts = torch.bincount(torch.tensor(targets, dtype=torch.int64), minlength=classes).double()
    present = counts > 0
    weights = len(targets) / (present.sum() * counts.clamp(min=1))
    return torch.where(present, weights, 0).float()


def balanced_label_weights(labels: Sequence[Sequence[int]], classes: int) -> Tensor:
    """Return ``(n - n_c) / n_c``, by which the n_c of n images that have a label weigh as much as those that do not; 1
    for a label that no image has, or every one."""
    counts = torch.zeros(classes, dtype=torch.float64)
    for found in labels:
        counts[list(found)] += 1
    mixed = (counts > 0) & (counts < len(labels))
    return torch.where(mixed, (len(labels) - counts) / counts.clamp(min=1), 1).float()
