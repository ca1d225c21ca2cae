"""Which object each anchor or proposal is to learn, how its box is told, and who is drawn for a loss."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection._utils import BoxCoder as TorchvisionBoxCoder
from torchvision.ops import box_iou

BACKGROUND, IGNORED = -1, -2


@dataclass(frozen=True)
class Matcher:
    """Gives candidates (anchors or proposals) to objects by their intersection over union, as MMDetection does.

    A candidate goes to the object that it overlaps most, from ``positive`` on; below ``negative`` it is background,
    between them ignored. Then every object takes the candidates that overlap it most, all of them where several do
    equally, whatever they went to before; of two such objects the later one has it. torchvision's matcher differs in
    the last step: such a candidate goes to the object that it overlaps most itself, and there is no ``minimum``.

    Attributes:
        positive, negative: the two thresholds.
        minimum: overlap from which an object takes its best candidates.
    """

    positive: float
    negative: float
    minimum: float

    def __call__(self, boxes: Tensor, candidates: Tensor) -> Tensor:
        """Object's number, BACKGROUND or IGNORED, of each candidate.

        Args:
            boxes: (objects, 4), perhaps none.
            candidates: (candidates, 4), perhaps none.
        """
        if not len(boxes) or not len(candidates):
            return torch.full((len(candidates),), BACKGROUND, dtype=torch.int64, device=candidates.device)
        overlap = box_iou(boxes, candidates)
        best, match = overlap.max(0)
        match = match.masked_fill(best < self.positive, IGNORED).masked_fill(best < self.negative, BACKGROUND)
        most = overlap.amax(1, keepdim=True)
        takes = (overlap == most) & (most >= self.minimum) & (most > 0)
        number = torch.arange(len(boxes), device=match.device)[:, None]
        taker = torch.where(takes, number, BACKGROUND).amax(0)
        return torch.where(taker >= 0, taker, match)


class BoxCoder(TorchvisionBoxCoder):
    """Boxes relative to others, as in Faster R-CNN (arXiv:1506.01497, equation 2), in units of ``stds``.

    torchvision's, and like MMDetection it bounds how far a box shrinks as well as how far it grows: 1000 / 16 times.
    """

    def __init__(self, stds: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)) -> None:
        super().__init__(weights=tuple(1 / std for std in stds), bbox_xform_clip=math.log(1000 / 16))

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """(N, 4 * k) boxes of codes of the same shape, relative to ``boxes`` (N, 4)."""
        bounds = [-math.inf, -math.inf, *(-self.bbox_xform_clip * weight for weight in self.weights[2:])]
        lowest = rel_codes.new_tensor(bounds).repeat(rel_codes.shape[1] // 4)
        return super().decode_single(torch.maximum(rel_codes, lowest), boxes)


class Sampler:
    """Draws ``count`` candidates, objects' up to ``fraction`` of them and the rest background.

    Which ones follows from PyTorch's global generator.
    """

    def __init__(self, count: int, fraction: float) -> None:
        self._sampler = BalancedPositiveNegativeSampler(count, fraction)

    def __call__(self, match: Tensor) -> tuple[Tensor, Tensor]:
        """Which candidates of a ``Matcher``'s answer are drawn: those that have an object, and those that have none."""
        positive, negative = self._sampler([match + 1])  # there 0 is background, and below it ignored
        return positive[0].nonzero()[:, 0], negative[0].nonzero()[:, 0]
