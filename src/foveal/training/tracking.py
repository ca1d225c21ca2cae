"""Experiment trackers: TensorBoard, Weights & Biases, MLflow, and any other that accelerate has.

Each look at training gives the loss, stats, learning rate, speed, data wait and memory; each epoch its line of
``metrics.jsonl``. A package is imported when its tracker starts.
"""

import importlib.util
import json
import os
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from foveal.errors import FovealError
from foveal.files import atomic_file
from foveal.near import did_you_mean
from foveal.training.listener import Listener, RunInfo, StepReport
from foveal.training.run_files import BEGINNING, TRACKERS

PROJECT = "foveal"  # of a tracker that groups runs, unless its environment variable names another
ADVICE = "make room, then --resume; what was saved before is untouched"
#: Packages whose name differs from that of their module.
_PACKAGES = {"comet_ml": "comet-ml"}
#: What packages raise beside the errors of the system, as module and class.
_ERRORS = {"wandb": ("wandb.errors", "Error"), "mlflow": ("mlflow.exceptions", "MlflowException")}


class Tracking(Listener):
    """Send the numbers of a run to trackers.

    A resumed run goes on in the same run of a tracker: TensorBoard hides the steps that are repeated, Weights & Biases
    and MLflow are given the run's id, and any other tracker starts a new one. A tracker that fails later is left out,
    and training goes on.

    Args:
        names: of trackers, as accelerate has them.
        out: the folder of the run.
        report: receives a sentence about a tracker that fails.

    Raises:
        FovealError: there is no such tracker, or its package is not installed.
    """

    def __init__(self, names: Sequence[str], out: Path, report: Callable[[str], None]) -> None:
        self._classes = {name: _tracker_class(name) for name in dict.fromkeys(names)}
        self._out, self._report = out, report
        self._started: dict[str, Any] = {}

    def begin(self, info: RunInfo) -> None:
        """Start the trackers. Raises FovealError if one refuses, for example because nobody is logged in."""
        done = (info.first_epoch - 1) * info.steps_per_epoch + info.steps_done
        known = _read_ids(self._out)
        for name, tracker_class in self._classes.items():
            try:
                tracker = _start(name, tracker_class, self._out, known, done)
                self._started[name] = tracker
                if not done and name != "tensorboard":  # which would show them as a second run
                    tracker.store_init_configuration(_hyperparameters(self._out))
            except _errors_of(name) as error:
                raise FovealError(
                    f"{name} could not be started ({_first_line(error)}): correct that, or leave it out of --track."
                ) from error
        if known:
            with atomic_file(self._out / TRACKERS, ADVICE) as part:
                part.write_text(json.dumps(known) + "\n", encoding="utf-8")

    def step(self, report: StepReport) -> None:
        train = {f"train/{name}": value for name, value in {"loss": report.loss, **report.stats}.items()}
        others = {
            "lr": report.lr,
            "speed/images_per_second": report.images_per_second,
            "speed/data_wait_seconds": report.data_wait_seconds,
            "memory/peak_gib": report.memory_bytes / 2**30,
        }
        self._log({**train, **others}, report.update)

    def epoch(self, record: dict[str, Any], is_best: bool) -> None:
        values = {name.replace("val_", "val/", 1): value for name, value in record.items() if name.startswith("val_")}
        self._log(values, record["step"])

    def close(self) -> None:
        for name in [*self._started]:
            self._try(name, lambda tracker: tracker.finish())
        self._started = {}

    def _log(self, values: dict[str, float], update: int) -> None:
        for name in [*self._started]:
            self._try(name, lambda tracker: tracker.log(values, step=update))

    def _try(self, name: str, act: Callable[[Any], None]) -> None:
        try:
            act(self._started[name])
        except _errors_of(name) as error:
            del self._started[name]
            self._report(f"{name} failed and gets nothing more of this run ({_first_line(error)}).")


def _tracker_class(name: str) -> Any:
    """Return accelerate's class of a tracker whose package is installed."""
    try:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS
        from accelerate.utils import LoggerType
    except ModuleNotFoundError as error:
        raise FovealError("Training needs accelerate: install it with `pip install 'foveal[train]'`.") from error
    known = {str(one): found for one, found in LOGGER_TYPE_TO_CLASS.items()}
    if name not in known:
        raise FovealError(
            f"There is no tracker {name!r}{did_you_mean(name, known)}: --track takes {', '.join(known)} or several of "
            "these with commas in between."
        )
    if name in map(str, LoggerType) and not _is_installed(name):
        package = _PACKAGES.get(name, name)
        raise FovealError(f"--track {name} needs {package}: install it with `pip install {package}`.")
    return known[name]


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _start(name: str, tracker_class: Any, out: Path, ids: dict[str, str], done: int) -> Any:
    """Start a tracker for a run that has done ``done`` updates; ``ids`` are those of its runs, by tracker."""
    if name == "tensorboard":
        tracker = tracker_class(name, logging_dir=str(out), purge_step=done + 1)
    elif name == "wandb":
        ids.setdefault(name, uuid.uuid4().hex[:8])
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        tracker = tracker_class(project, name=_title(out), dir=str(out), id=ids[name], resume="allow")
    elif name == "mlflow":
        tracker = tracker_class(PROJECT, run_id=ids.get(name), run_name=_title(out))
    elif tracker_class.requires_logging_directory:
        tracker = tracker_class(PROJECT, logging_dir=str(out))
    else:
        tracker = tracker_class(PROJECT)
    if hasattr(tracker, "start"):  # older versions of accelerate start it at once
        tracker.start()
    if name == "mlflow":
        ids[name] = tracker.tracker.info.run_id
    return tracker


def _title(out: Path) -> str:
    return out.resolve().name


def _read_ids(out: Path) -> dict[str, str]:
    path = out / TRACKERS
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _hyperparameters(out: Path) -> dict[str, Any]:
    """Return the settings of a run that has begun, in the types that trackers take."""
    beginning = json.loads((out / BEGINNING).read_text(encoding="utf-8"))
    card = {name: beginning["card"].get(name) for name in ("task", "recipe", "model")}
    values = {**card, **beginning["settings"], "training_images": beginning["images"]["train"]}
    plain = (bool, int, float, str)
    return {name: value if isinstance(value, plain) else str(value) for name, value in values.items()}


def _errors_of(name: str) -> tuple[type[Exception], ...]:
    """Return the classes of errors of a tracker: the system's, and that of its package if that has been imported."""
    module, error = _ERRORS.get(name, ("", ""))
    found = getattr(sys.modules.get(module), error, None)
    return (OSError,) if found is None else (OSError, found)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
