"""The base class of detectors and segmenters."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from foveal.tasks.dense.backbone import DenseBackbone


class DenseModel(nn.Module):
    """A head on the feature maps of ``backbone``."""

    called: ClassVar[str]
    """The word for it in error messages."""

    released_renames: Sequence[tuple[str, str]] = ()
    """(pattern, replacement) from the authors' names to ours, except for the backbone; the first match counts."""

    class_layers: tuple[str, ...] = ()
    """Prefixes of parameters that belong to classes, and keep their initial values for other classes."""

    def __init__(self, backbone: DenseBackbone, num_classes: int) -> None:
        super().__init__()
        self.backbone, self.num_classes = backbone, num_classes

    def dense_pass(self, images: Tensor) -> Any:
        """Run all layers once on normalised images (B, 3, H, W), whatever their content, to count operations."""
        raise NotImplementedError

    def adapt_released(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the renamed weights of the authors in the shapes that they have here."""
        return state

    def summary(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the losses of a batch to log."""
        return {name.removeprefix("loss_"): loss.detach() for name, loss in losses.items()}

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters without weight decay, in addition to biases and norms."""
        return {f"backbone.{name}" for name in self.backbone.no_weight_decay()}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the backbone's activations in the backward pass instead of keeping them."""
        self.backbone.set_grad_checkpointing(enable)
