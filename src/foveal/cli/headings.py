"""The headings that the help of a command lists its options under, for commands with many of them."""

from collections.abc import Iterable, Mapping

OTHERS = "Options"  # of a command without headings, and of an option that its headings lack
DATA, MODEL, SCHEDULE, HARDWARE, OUTPUT = "Data", "Model", "Schedule", "Hardware", "Output"
MEASUREMENT, REGULARISATION = "Measurement", "Regularisation and balance"

_SCHEDULE = ("epochs", "patience", "epoch_steps", "batch_size", "lr", "warmup_epochs", "seed")
_WEIGHTS = ("weight_decay", "layer_decay", "clip_norm", "ema_decay", "freeze")
_CLASSES = ("class_weights", "sampling")
_HARDWARE = ("precision", "device_batch_size", "workers", "grad_checkpointing", "compile")

#: Command -> heading -> names of options.
HEADINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "tables": {
        OUTPUT: ("format", "json"),
        MEASUREMENT: ("count", "time", "batch", "rounds", "no_memory"),
        "Accuracy": ("checkpoint", "data", "row"),
        HARDWARE: ("device", "workers"),
    },
    "train": {
        DATA: ("data", "val_fraction", "mask_suffix", "zero", "broken"),
        MODEL: ("model", "checkpoint", "pretrained", "size", "drop_path"),
        SCHEDULE: _SCHEDULE,
        REGULARISATION: (*_WEIGHTS, *_CLASSES, "augment", "mixup", "cutmix", "label_smoothing"),
        HARDWARE: _HARDWARE,
        "Run": ("out", "resume", "requeue", "config", "save_steps"),
        OUTPUT: ("track", "tensorboard", "no_report", "json"),
        "Without training": ("show_list", "dry_run", "processes", "images"),
    },
    "ablate": {
        "Table": ("rows", "seeds", "dry_run"),
        DATA: ("data", "val_fraction", "broken"),
        SCHEDULE: _SCHEDULE,
        REGULARISATION: (*_WEIGHTS, *_CLASSES),
        HARDWARE: ("jobs", *_HARDWARE),
        OUTPUT: ("out", "save_steps", "json"),
    },
    "evaluate": {
        DATA: ("data", "split", "set", "mask_suffix", "broken"),
        MODEL: ("checkpoint", "pretrained", "model"),
        "Images": ("size", "multi_scale", "flip", "window", "stride", "whole"),
        "Robustness": ("corrupt", "corruptions", "severities"),
        "Modes of TransNeXt": ("mode", "pool_size", "position_bias", "reference_size"),
        HARDWARE: ("precision", "calibration_images", "optimize", "batch_size", "workers"),
        OUTPUT: ("out", "paper", "json"),
    },
    "predict": {
        DATA: ("every", "workers"),
        MODEL: ("checkpoint", "model", "size"),
        OUTPUT: ("out", "features", "top_k", "score", "json"),
    },
    "explain": {
        MODEL: ("checkpoint", "model", "pretrained", "size", "seed"),
        "What is drawn": ("what", "stage", "block"),
        "Attention": ("query",),
        "Evidence (gradcam)": ("classes", "method", "layer"),
        "Receptive fields (erf)": ("beside", "sign", "batch_size"),
        OUTPUT: ("out", "formats", "dpi", "credit", "json"),
    },
    "export": {
        MODEL: ("checkpoint", "model", "pretrained", "features"),
        "File": ("format", "out", "size", "batch", "dynamic"),
        "Precision": ("precision", "calibration", "calibration_images"),
        OUTPUT: ("json",),
    },
    "bench": {
        "What is measured": ("models", "peers", "forms", "mode", "dtypes", "batches", "sizes"),
        MEASUREMENT: ("rounds", "no_memory"),
        HARDWARE: ("device", "threads"),
        OUTPUT: ("csv", "plot", "json"),
    },
}


def grouped(command: str, names: Iterable[str]) -> Mapping[str, list[str]]:
    """Return the names of options under the headings of a command, in the order of both."""
    left = dict.fromkeys(names)
    groups: dict[str, list[str]] = {}
    for heading, members in HEADINGS.get(command, {}).items():
        groups[heading] = [name for name in members if name in left]
        left = {name: None for name in left if name not in members}
    return {heading: found for heading, found in [*groups.items(), (OTHERS, [*left])] if found}
