"""What a training run is told: numbers and choices, and nothing that knows a task."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from foveal.errors import FovealError

Precision = Literal["fp32", "bf16", "fp16"]
Schedule = Literal["cosine", "constant", "multistep", "poly"]
Broken = Literal["stop", "skip"]


@dataclass(frozen=True)
class TrainConfig:
    """The settings of one run.

    Epochs count passes over the training set, unless ``epoch_steps`` says how long one is; ``cooldown_epochs`` follow
    ``epochs`` at the lowest learning rate.
    ``batch_size`` is the effective batch: the images behind one update, over all devices and accumulation steps.
    Learning rates are per update of that batch and are never scaled behind your back.
    """

    epochs: int = 300
    cooldown_epochs: int = 0
    epoch_steps: int | None = None
    """Updates between two evaluations, for schedules that count iterations: epochs then follow each other through the
    training set, over and over. None: an epoch is as many whole batches as there are in the set."""
    batch_size: int = 1024
    device_batch_size: int | None = None
    """Images in one forward pass on one device; None takes the largest that divides evenly and is at most 128."""

    lr: float = 1e-3
    min_lr: float = 1e-5
    warmup_epochs: int = 5
    warmup_steps: int | None = None
    """Length of the warm-up in updates; None lets ``warmup_epochs`` say it."""
    warmup_lr: float = 1e-6
    schedule: Schedule = "cosine"
    milestones: tuple[int, ...] = ()
    """Of "multistep": after so many epochs the learning rate is multiplied by ``decay_rate``, each time."""
    decay_rate: float = 0.1
    power: float = 1.0
    """Of "poly": ``min_lr + (lr - min_lr) * (1 - done / all) ** power``."""
    lr_factors: dict[str, float] = field(default_factory=dict)
    """Beginnings of parameters' names ("backbone."), and what their learning rate is multiplied by; the longest
    counts."""

    optimizer: str = "adamw"
    betas: tuple[float, float] | None = (0.9, 0.999)
    """Passed to the optimiser where not None; an optimiser without betas (sgd) wants None."""
    eps: float | None = 1e-8
    weight_decay: float = 0.05
    layer_decay: float | None = None
    clip_norm: float | None = None
    ema_decay: float | None = None

    precision: Precision = "fp32"
    grad_checkpointing: bool = False
    compile: bool = False
    channels_last: bool = True
    sync_bn: bool = False

    workers: int = 8
    """Loading processes beside each training process, at most: never more than it may use CPUs."""
    broken: Broken = "stop"
    """What an image that cannot be read does: end the run, or be skipped and counted (another is drawn instead)."""
    seed: int = 0
    log_every: int = 10
    """Updates between two looks at training: each look waits for the device, so a GPU wants more than 1."""
    save_steps: int | None = None
    """Updates between two saves within an epoch; None saves at its end alone."""

    @property
    def total_epochs(self) -> int:
        return self.epochs + self.cooldown_epochs

    def __post_init__(self) -> None:
        for name, lowest in LOWEST.items():
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise FovealError(f"{name} must be at least {lowest}, not {value}.")
        if self.broken not in get_args(Broken):
            raise FovealError(f"broken must be stop or skip, not {self.broken!r}.")
        if self.schedule not in get_args(Schedule):
            raise FovealError(f"schedule must be one of {', '.join(get_args(Schedule))}, not {self.schedule!r}.")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise FovealError(f"milestones must grow from one to the next, not {self.milestones}.")
        if self.layer_decay is not None and self.lr_factors:
            raise FovealError("layer_decay and lr_factors both scale learning rates: set one of them.")
        if self.warmup_steps is None and self.warmup_epochs > self.epochs:
            raise FovealError(
                f"warmup_epochs must be at most epochs, not {self.warmup_epochs} of {self.epochs}: pass "
                "fewer --warmup-epochs."
            )
        above_zero = {name: getattr(self, name) for name in ("lr", "clip_norm", "decay_rate", "power")}
        for name, value in {**above_zero, **{f"lr_factors of {n}": f for n, f in self.lr_factors.items()}}.items():
            if value is not None and not 0 < value < math.inf:
                raise FovealError(f"{name} must be above 0, not {value}.")
        for name in ("ema_decay", "layer_decay"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise FovealError(f"{name} must lie between 0 and 1, not at {value}.")


LOWEST = {
    "epochs": 1,
    "epoch_steps": 1,
    "batch_size": 1,
    "device_batch_size": 1,
    "log_every": 1,
    "save_steps": 1,
    "cooldown_epochs": 0,
    "warmup_epochs": 0,
    "warmup_steps": 0,
    "workers": 0,
    "seed": 0,
    "min_lr": 0,
    "warmup_lr": 0,
    "weight_decay": 0,
}

#: Settings that may differ between a run and its continuation: they change the speed, the rounding, which random
#: numbers are drawn, and what becomes of images that cannot be read. The device batch is free only where no image's
#: training depends on the others in it: with batch norm, mixup or a detector ``take_over`` refuses another one.
FREE_ON_RESUME = frozenset(
    {
        *("device_batch_size", "workers", "broken", "log_every", "save_steps"),
        *("grad_checkpointing", "compile", "channels_last"),
    }
)
