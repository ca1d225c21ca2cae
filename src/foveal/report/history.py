"""What the logs of a run say: which figures belong together, and why a loss is higher in training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from foveal.training.journal import LOGGED
from foveal.wording import is_percent

Record = Mapping[str, Any]
TRAINED, VALIDATED = "train_", "val_"


def loss_parts(names: Iterable[str], epoch: Record) -> list[str]:
    """Return which figures of training are parts of the loss; none if it has fewer than two.

    Args:
        names: of all that is logged of training.
        epoch: a record with what is validated.
    """
    parts = [name for name in names if name not in LOGGED and f"{VALIDATED}{name}" not in epoch]
    return parts if len(parts) > 1 else []


def beside(record: Record, monitor: str) -> list[str]:
    """Return the validated figures of the monitored one's kind, it first: AP of boxes and of masks."""
    kind = monitor.partition("_")[2]
    names = [key.removeprefix(VALIDATED) for key in record if key.startswith(VALIDATED)]
    return [monitor, *(name for name in names if kind and name != monitor and name.partition("_")[2] == kind)]


def begins_at_zero(monitor: str) -> bool:
    """Return whether the axis of a figure begins at 0: of average precision and IoU, whose small changes are noise, but
    not of accuracy, which ends near 100 %."""
    return is_percent(monitor) and monitor != "top1"


def why_higher(history: Sequence[Record], best_epoch: int, differences: Sequence[str]) -> str | None:
    """Return why the training loss of the best epoch lies above the validation loss, if it does and there is why."""
    best = next((record for record in history if record["epoch"] == best_epoch), history[-1])
    trained, validated = best.get(f"{TRAINED}loss"), best.get(f"{VALIDATED}loss")
    if not differences or trained is None or validated is None or trained <= validated:
        return None
    listed = ", ".join(differences[:-1]) + " and " * (len(differences) > 1) + differences[-1]
    return f"The training loss lies above the validation loss, since in training only {listed}."


def differences(card: Mapping[str, Any]) -> list[str]:
    """Return what training does to images and networks that validation does not, in words: for a loss that is higher
    in training.

    Args:
        card: metadata of the task, as in ``run.json``.
    """
    augment = card.get("augmentation") or {}
    found = []
    changes = ("flip", "color_jitter", "rand_augment", "erasing")
    if any(augment.get(name) for name in changes) or tuple(augment.get("crop_scale", (1, 1))) != (1, 1):
        found.append("images are augmented")
    if augment.get("mixup") or augment.get("cutmix"):
        found.append("images are mixed with each other")
    if augment.get("label_smoothing"):
        found.append(f"labels are smoothed by {augment['label_smoothing']:g}")
    if card.get("drop_path"):
        found.append(f"blocks are left out at random (drop path {card['drop_path']:g})")
    return found
