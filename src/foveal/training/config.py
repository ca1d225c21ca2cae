"""The settings of a training run, the same for every task."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from foveal.errors import FovealError
from foveal.options import option, setting

Precision = Literal["fp32", "bf16", "fp16"]
InferencePrecision = Literal["fp32", "bf16", "fp16", "int8"]
Schedule = Literal["cosine", "constant", "multistep", "poly"]
Balance = Literal["balanced"]
Freeze = int | Literal["all"]
Broken = Literal["stop", "skip"]
Auto = Literal["auto"]
AUTO: Auto = "auto"


@dataclass(frozen=True)
class TrainConfig:
    """The settings of one run.

    An epoch is a pass over the training set, unless ``epoch_steps`` sets its length. ``batch_size`` is the effective
    batch, and learning rates are per update of that batch: they are never scaled automatically. What is counted in
    updates is held against the length of the run when that is known (see ``length``).
    """

    epochs: int = option(
        300, help="Passes over the training images, including warm-up but not cooldown; each ends with an evaluation."
    )
    cooldown_epochs: int = setting(0, help="Epochs after these, at the lowest learning rate.")
    patience: int | None = option(
        None,
        help="Stop after this many epochs in a row without an improvement of the metric that selects the best weights; "
        "if unset all epochs are trained.",
    )
    epoch_steps: int | None = option(
        None,
        help="Updates per epoch, instead of one pass over the data: then each epoch continues where the last ended.",
    )
    batch_size: int = option(1024, help="Images per update, over all devices and accumulation steps.")
    drop_last: bool = setting(
        False,
        help="Leave out the images of an epoch that fill no batch, as timm's training does; otherwise the last batch "
        "is filled with the first images of the next pass.",
    )
    device_batch_size: int | Auto | None = option(
        None,
        help="Images per forward pass on one device; if unset the largest that divides evenly, at most 128; auto finds "
        "the largest that fits into memory.",
    )

    lr: float = option(1e-3, help="Highest learning rate, for an update of the whole batch.")
    min_lr: float = setting(1e-5, help="Lowest learning rate of the cosine and poly schedules.")
    warmup_epochs: int = option(
        5, help="Epochs of linear warm-up; if left out as the recipe says, but fewer than --epochs."
    )
    warmup_steps: int | None = setting(
        None,
        help="Updates of warm-up, instead of `warmup_epochs`: at most half of those before the first milestone or the "
        "end.",
    )
    warmup_lr: float = setting(1e-6, help="Learning rate of the first update of the warm-up.")
    schedule: Schedule = setting("cosine", help="Learning-rate schedule after the warm-up.")
    milestones: tuple[int, ...] = setting((), help="Epochs after which multistep multiplies the rate by `decay_rate`.")
    decay_rate: float = setting(0.1, help="Factor of multistep.")
    power: float = setting(1.0, help="Exponent of poly: `min_lr + (lr - min_lr) * (1 - done / all) ** power`.")
    lr_factors: dict[str, float] = setting(
        factory=dict,
        help="Factors of the learning rate by prefix of parameter names; the longest prefix counts.",
    )

    optimizer: str = setting("adamw", help="Optimiser, by timm's name.")
    betas: tuple[float, float] | None = setting(
        (0.9, 0.999), help="Coefficients of Adam's running averages; None keeps the optimiser's own, and sgd has none."
    )
    eps: float | None = setting(1e-8, help="Term added to the denominator; None keeps the optimiser's own.")
    weight_decay: float = option(0.05, help="Weight decay of weights; biases and norms have none.")
    layer_decay: float | None = option(
        None,
        help="Layer-wise decay of the learning rate, from the head downwards; 1 for none.",
        tasks=("classification",),
    )
    clip_norm: float | None = option(None, help="Largest norm of the gradients; 0 for no limit.")
    ema_decay: float | None = option(
        None,
        help="Decay of a moving average of the weights, which is then evaluated: lower in a run of fewer than "
        "`5 / (1 - ema_decay)` updates; 0 for no average.",
    )
    freeze: Freeze | None = option(
        None,
        help="Number of stages that keep the weights they start from, with the stem before them; all for everything "
        "but the head.",
    )
    class_weights: Balance | None = option(
        None,
        help="Weights of the classes in the loss: balanced is `n / (classes * n_c)` for a class with n_c of the n "
        "images.",
        tasks=("classification",),
    )
    sampling: Balance | None = option(
        None,
        help="How training images are drawn: balanced draws every class equally often.",
        tasks=("classification",),
    )

    precision: Precision = option("fp32", help="Precision of the forward pass.")
    grad_checkpointing: bool = option(False, help="Recompute activations in the backward pass: less memory, more time.")
    compile: bool = option(False, help="Compile the model with torch.compile.")
    channels_last: bool = setting(True, help="Memory format of model and images.")
    sync_bn: bool = setting(False, help="Synchronise batch norm over processes.")

    workers: int = option(8, help="Loading processes per training process, at most as many as it has CPUs.")
    val_fraction: float | None = option(
        None,
        help="Share of the images for validation where there is no validation split, drawn with `seed`; of each class, "
        "except for label maps.",
    )
    broken: Broken = option("stop", help="Stop at a broken image or annotation, or skip and count it.")
    seed: int = option(0, help="Seed of all randomness.")
    log_every: int = setting(10, help="Updates between two lines of steps.jsonl; each waits for the device.")
    save_steps: int | None = option(None, help="Updates between saves within an epoch; if unset only its end is saved.")

    @property
    def total_epochs(self) -> int:
        return self.epochs + self.cooldown_epochs

    def __post_init__(self) -> None:
        if isinstance(self.device_batch_size, str) and self.device_batch_size != AUTO:
            raise FovealError(f"device_batch_size must be a number or {AUTO}, not {self.device_batch_size!r}.")
        for name, lowest in LOWEST.items():
            value = getattr(self, name)
            if isinstance(value, int | float) and value < lowest:
                raise FovealError(f"{name} must be at least {lowest}, not {value}.")
        if self.broken not in get_args(Broken):
            raise FovealError(f"broken must be stop or skip, not {self.broken!r}.")
        if self.schedule not in get_args(Schedule):
            raise FovealError(f"schedule must be one of {', '.join(get_args(Schedule))}, not {self.schedule!r}.")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise FovealError(f"milestones must increase, not {self.milestones}.")
        if self.layer_decay is not None and self.lr_factors:
            raise FovealError("layer_decay and lr_factors both scale learning rates: set one of them.")
        if self.warmup_steps is None and self.warmup_epochs > self.epochs:
            raise FovealError(
                f"warmup_epochs must be at most epochs, not {self.warmup_epochs} of {self.epochs}: pass "
                "fewer --warmup-epochs."
            )
        if self.class_weights is not None and self.sampling is not None:
            raise FovealError("class_weights and sampling both balance the classes: set one of them.")
        if isinstance(self.freeze, str) and self.freeze != "all":
            raise FovealError(f"freeze must be a number of stages or all, not {self.freeze!r}.")
        above_zero = {name: getattr(self, name) for name in ("lr", "decay_rate", "power")}
        for name, value in {**above_zero, **{f"lr_factors of {n}": f for n, f in self.lr_factors.items()}}.items():
            if value is not None and not 0 < value < math.inf:
                raise FovealError(f"{name} must be above 0, not {value}.")
        for name in ("weight_decay", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise FovealError(f"{name} must be at least 0, not {value}.")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise FovealError(f"ema_decay must be at least 0 and below 1, not {self.ema_decay}.")
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise FovealError(f"layer_decay must be above 0 and at most 1, not {self.layer_decay}.")
        if self.val_fraction is not None and not 0 < self.val_fraction < 1:
            raise FovealError(f"val_fraction must be between 0 and 1, not {self.val_fraction}.")


LOWEST = {
    "epochs": 1,
    "epoch_steps": 1,
    "patience": 1,
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
    "freeze": 0,
}

#: Settings that may change when a run is resumed: they affect speed, rounding, random numbers, the handling of
#: unreadable images, and the patience. The device batch may change only if images do not depend on each other: with
#: batch norm, mixup or a detector, ``take_over`` refuses another one.
FREE_ON_RESUME = frozenset(
    {
        *("device_batch_size", "workers", "broken", "log_every", "save_steps", "patience"),
        *("grad_checkpointing", "compile", "channels_last"),
    }
)
