"""What the loop asks of a task."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from foveal.training.batching import Batching, Share
from foveal.training.config import TrainConfig
from foveal.training.loading import Loader
from foveal.training.processes import Processes


class Task(Protocol):
    """A model, its images and its measure of success. The loop never looks inside a batch."""

    model: nn.Module
    """On the CPU, in fp32; the loop moves it."""
    train_size: int
    """Samples in the training set."""
    monitor: str
    """The metric of ``evaluate`` that decides which epoch is best."""
    higher_is_better: bool
    mixes: bool
    """Whether the samples of a device batch meet in ``loss``, so that its size matters to what is learned."""
    notices: Sequence[str]
    """Sentences that whoever starts a run should read, as about data that is left out."""

    def train_loader(self, batching: Batching, draws: int, share: Share, config: TrainConfig) -> Loader:
        """Batches of ``batching.device`` samples, ``draws`` samples an epoch for this process."""
        ...

    def loss(self, model: Callable, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar loss of a batch on the model's device, and scalars worth showing (means over the batch)."""
        ...

    def evaluate(
        self, model: nn.Module, processes: Processes, on_batch: Callable[[int, int], None]
    ) -> dict[str, float]:
        """Metrics over the whole validation set, equal on every process; ``on_batch(done, total)`` after each batch."""
        ...

    def metadata(self) -> dict[str, Any]:
        """Return what a checkpoint says about its network (name, arguments, classes, preprocessing), in plain types."""
        ...
