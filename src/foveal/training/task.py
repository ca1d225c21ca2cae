"""The interface of a task for the training loop."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from foveal.training.batching import Batching, Share
from foveal.training.config import TrainConfig
from foveal.training.loading import Loader
from foveal.training.processes import Processes
from foveal.training.start import Start


class Task(Protocol):
    """A model, its data and its metric. The loop never looks inside a batch."""

    model: nn.Module
    """On the CPU, in fp32; the loop moves it."""
    train_size: int
    """Samples in the training set."""
    monitor: str
    """The metric of ``evaluate`` that decides which epoch is best."""
    higher_is_better: bool
    mixes: bool
    """Whether samples of a device batch depend on each other in ``loss``, so that its size changes the training."""
    start: Start | None
    """The weights that ``model`` starts from; None for initial values."""

    @property
    def notices(self) -> Sequence[str]:
        """Sentences for the user at the start of a run, for example about data that is left out. Those that an epoch
        adds are reported after it."""
        ...

    def train_loader(self, batching: Batching, draws: int, share: Share, config: TrainConfig) -> Loader:
        """Return batches of ``batching.device`` samples, ``draws`` samples per epoch for this process."""
        ...

    def loss(self, model: Callable, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the scalar loss of a batch on the model's device, and scalars to show (means over the batch)."""
        ...

    def evaluate(
        self, model: nn.Module, processes: Processes, on_batch: Callable[[int, int], None]
    ) -> dict[str, float]:
        """Return metrics over the whole validation set, equal on every process; call ``on_batch(done, total)``.

        If they are means over classes, ``scored_classes`` and ``classes`` say over how many of how many, and
        ``classes_with_examples`` how many have an example, if that is another number.
        """
        ...

    def metadata(self) -> dict[str, Any]:
        """Return what a checkpoint says about its network (name, arguments, classes, preprocessing), in plain types."""
        ...

    def check_split(self, batching: Batching) -> None:
        """Raise FovealError for a device batch that ``loss`` cannot take."""
        ...

    def device_memory(self, batch: int, processes: int) -> int | None:
        """Return the bytes that a device batch of this size takes in training, estimated; None if that depends on the
        content of the images."""
        ...
