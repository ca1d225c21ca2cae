"""A batch of images that differ in size."""

from torch import Tensor


def collate(samples: list[tuple[Tensor, dict[str, Tensor]]]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """[(image, target), ...] -> ([image, ...], [target, ...]); nothing is padded, a detector does that."""
    return [image for image, _ in samples], [target for _, target in samples]
