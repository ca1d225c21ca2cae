"""The task of classification where an image has any number of labels: one output per class, each of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from foveal.runtime.guesses import THRESHOLD
from foveal.tasks.classification.label_scores import micro_f1, score_labels
from foveal.tasks.classification.losses import LabelLoss, balanced_label_weights
from foveal.tasks.classification.task import ClassificationTask
from foveal.training.processes import Processes


class MultiLabelTask(ClassificationTask):
    """A classifier of images with any number of labels; ``ClassificationTask.create`` returns it for such images."""

    monitor = "map"

    def make_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        augment, balanced = self.recipe.augment, self.recipe.train.class_weights == "balanced"
        weights = balanced_label_weights(self.train.labels, len(self.classes)) if balanced else None
        return LabelLoss(0.0 if augment.mixes else augment.label_smoothing, weights)  # mixup smooths

    def accuracy(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the micro F1 of the batch in percent; of a mixed target the larger part counts."""
        return {"f1": 100.0 * micro_f1(logits > 0, targets > THRESHOLD)}

    def evaluate(
        self, model: nn.Module, processes: Processes, on_batch: Callable[[int, int], None]
    ) -> dict[str, float]:
        """Return mean average precision and micro F1 in percent, and the loss without weights.

        Classes that no validation image has are not in the mean: ``scored_classes`` of ``classes`` are.
        """
        loader, classes = self.validation_loader(processes.share), len(self.classes)
        score = score_labels(model, loader, processes.device, classes, processes, on_batch)
        metrics = score.figures()
        if score.scored_classes < classes:
            metrics |= {"scored_classes": score.scored_classes, "classes": classes}
            self.note_uncounted(score.per_class)
        return {**metrics, "skipped": float(score.broken)} if self.recipe.train.broken == "skip" else metrics

    def own_metadata(self) -> dict[str, Any]:
        return {**super().own_metadata(), "multi_label": True}
