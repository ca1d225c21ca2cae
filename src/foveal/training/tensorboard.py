"""The run as TensorBoard shows it: `tensorboard --logdir runs`."""

from pathlib import Path
from typing import Any

from foveal.errors import FovealError
from foveal.training.listener import Listener, Plan, StepReport

FOLDER = "tensorboard"


class TensorBoard(Listener):
    """Writes event files into ``out/tensorboard``: per look the loss, stats, learning rate, speed, data wait and
    memory; per epoch the line of ``metrics.jsonl``. A resumed run hides what it does again.

    Raises:
        FovealError: tensorboard is not installed.
    """

    def __init__(self, out: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            raise FovealError(
                "--tensorboard needs tensorboard: install it with `pip install 'foveal[train]'`."
            ) from error
        self._open, self._folder = SummaryWriter, str(out / FOLDER)

    def begin(self, plan: Plan) -> None:
        done = (plan.first_epoch - 1) * plan.steps_per_epoch + plan.steps_done
        self._writer = self._open(self._folder, purge_step=done + 1)

    def step(self, report: StepReport) -> None:
        values = {"loss": report.loss, **report.stats}
        for name, value in values.items():
            self._writer.add_scalar(f"train/{name}", value, report.update)
        self._writer.add_scalar("lr", report.lr, report.update)
        self._writer.add_scalar("speed/images_per_second", report.images_per_second, report.update)
        self._writer.add_scalar("speed/data_wait_seconds", report.data_wait_seconds, report.update)
        self._writer.add_scalar("memory/peak_gib", report.memory_bytes / 2**30, report.update)

    def epoch(self, record: dict[str, Any], is_best: bool) -> None:
        for name, value in record.items():
            if name.startswith("val_"):
                self._writer.add_scalar(name.replace("val_", "val/", 1), value, record["step"])
        self._writer.flush()

    def close(self) -> None:
        if hasattr(self, "_writer"):
            self._writer.close()
