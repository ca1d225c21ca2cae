"""What segmenters share that give every pixel logits of the classes: UPerNet and Semantic FPN.

Losses and first weights are those of MMSegmentation, with which the released segmenters were trained.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.tasks.segmentation.segmenter import IGNORED, Segmenter


class PixelSegmenter(Segmenter):
    """A head that gives logits at a stride of the image; they are resized to the image bilinearly.

    Its scores are these logits. In training ``loss_decode`` is their ``pixel_cross_entropy``. See ``Segmenter``.
    """

    class_layers: tuple[str, ...] = ("decode_head.classifier.",)

    def logits(self, maps: list[Tensor]) -> Tensor:
        """Logits (B, num_classes, h, w), from the backbone's maps."""
        raise NotImplementedError

    def losses(self, maps: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        return {"loss_decode": pixel_cross_entropy(self.logits(maps), labels)}

    def scores(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        return resize(self.logits(maps), size)

    def adapt_released(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Batch norms' counts of batches, which nothing reads here, are ours where a file has none."""
        counts = {
            name: tensor
            for name, tensor in self.state_dict().items()
            if name.endswith(".num_batches_tracked") and not name.startswith("backbone.")
        }
        return {**counts, **state}


def resize(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (B, C, h, w) resized bilinearly to (B, C, *size), between centres of pixels; in float32 at least."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def pixel_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of logits (B, C, h, w), resized to labels (B, H, W): the sum over all pixels that have a class,
    divided by the number of *all* pixels.

    So MMSegmentation does it unless told otherwise, and the published segmenters' settings do not. An image counts for
    as much as it has pixels with a class, and a batch without any gives 0 instead of NaN.
    """
    resized = resize(logits, (labels.shape[-2], labels.shape[-1]))
    return F.cross_entropy(resized, labels, ignore_index=IGNORED, reduction="none").mean()


def draw_weights(head: nn.Module) -> None:
    """First weights of a head: convolutions for ReLUs (He et al., arXiv:1502.01852, by what comes out), its
    ``classifier`` from a normal distribution of 0.01, biases 0."""
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    nn.init.normal_(head.get_submodule("classifier").weight, std=0.01)  # type: ignore[arg-type]
