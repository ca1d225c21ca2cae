"""What detectors and segmenters have in common: a backbone of maps, a head, and the loop's wishes."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from foveal.tasks.dense.backbone import DenseBackbone


class DenseModel(nn.Module):
    """A head on the maps of a backbone, which lies in ``backbone``."""

    called: ClassVar[str]
    """What it is, in a word, for sentences."""

    released_renames: Sequence[tuple[str, str]] = ()
    """From the authors' names to ours, of all but the backbone: (pattern, replacement), of which the first one counts
    that matches."""

    class_layers: tuple[str, ...] = ()
    """Beginnings of the names of parameters that belong to single classes, and stay new where these are others."""

    def __init__(self, backbone: DenseBackbone, num_classes: int) -> None:
        super().__init__()
        self.backbone, self.num_classes = backbone, num_classes

    def dense_pass(self, images: Tensor) -> Any:
        """All layers once, on normalised images (B, 3, H, W), with as much work whatever they show: to count it."""
        raise NotImplementedError

    def adapt_released(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The authors' weights, renamed, in the shapes that they have here."""
        return state

    def summary(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """What of a batch's losses is worth showing."""
        return {name.removeprefix("loss_"): loss.detach() for name, loss in losses.items()}

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that are not decayed, beside biases and norms."""
        return {f"backbone.{name}" for name in self.backbone.no_weight_decay()}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the backbone's activations in the backward pass instead of keeping them."""
        self.backbone.set_grad_checkpointing(enable)
