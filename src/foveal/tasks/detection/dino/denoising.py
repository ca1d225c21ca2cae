"""Contrastive denoising: objects with little noise to reconstruct, and with more noise to reject (DINO, 3.3)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.models.deformable_detr.modeling_deformable_detr import inverse_sigmoid

from foveal.tasks.detection.dino.matching import Objects, Pairs, to_corners

# Noised boxes are kept this far from 0 and 1, as published.
NOISED_EPS = 1e-3


@dataclass(frozen=True)
class NoisedQueries:
    """Queries of G groups, each with M positives (little noise) and then M negatives: D = 2 G M in all.

    Attributes:
        content: (B, D, dim), embeddings of labels, some of them wrong; zero in the padding of ``Objects``.
        boxes: (B, D, 4) as (cx, cy, w, h) relative to the image.
        groups: G.
    """

    content: Tensor
    boxes: Tensor
    groups: int


class Denoising(nn.Module):
    """Create noised queries from objects by flipping labels and moving boxes.

    Args:
        num_classes: object classes.
        dim: width of a query.
        queries: approximate number of positives, and of negatives; determines the number of groups.
        label_noise: half of it is the fraction of labels that are redrawn from all classes.
        box_noise: 1 moves the corners of positives by up to half the box's side, those of negatives by half to all
            of it.
    """

    def __init__(
        self, num_classes: int, dim: int, queries: int = 100, label_noise: float = 0.5, box_noise: float = 1.0
    ) -> None:
        super().__init__()
        self.queries, self.label_noise, self.box_noise = queries, label_noise, box_noise
        self.label_embedding = nn.Embedding(num_classes, dim)

    def forward(self, objects: Objects) -> NoisedQueries:
        """Return noised queries, none (D = 0) if no image has an object.

        The embedding is part of the graph even then, as distributed training requires.
        """
        groups = max(self.queries // max(objects.most, 1), 1)
        labels = flip_labels(
            objects.labels.repeat(1, 2 * groups), self.label_noise, self.label_embedding.num_embeddings
        )
        present = objects.present.repeat(1, 2 * groups)
        content = self.label_embedding(labels) * present[..., None]
        boxes = move_boxes(objects.boxes.repeat(1, 2 * groups, 1), objects.most, self.box_noise)
        # Padding stands for no object; its box is in the middle of the image.
        return NoisedQueries(content, boxes.where(present[..., None], 0.5), groups)


def flip_labels(labels: Tensor, noise: float, num_classes: int) -> Tensor:
    """Return labels of which a fraction ``noise / 2`` is redrawn uniformly from all classes, including their own."""
    chosen = torch.rand(labels.shape, device=labels.device) < noise / 2
    return torch.where(chosen, torch.randint_like(labels, num_classes), labels)


def move_boxes(boxes: Tensor, most: int, noise: float) -> Tensor:
    """Return boxes (B, D, 4) with each coordinate of both corners moved independently (DINO, figure 3).

    Boxes alternate: ``most`` positives, then ``most`` negatives. A coordinate moves by ``noise * r / 2`` of the box's
    side in either direction, with r from 0 to 1 for positives and from 1 to 2 for negatives; corners stay in the image.
    """
    negative = torch.arange(boxes.shape[1], device=boxes.device) // max(most, 1) % 2
    size = torch.rand_like(boxes) + negative[:, None]
    sign = torch.randint_like(boxes, 2) * 2 - 1
    moved = to_corners(boxes) + sign * size * boxes[..., 2:].repeat(1, 1, 2) * (noise / 2)
    low, high = moved.clamp(0, 1).chunk(2, -1)
    return inverse_sigmoid(torch.cat(((low + high) / 2, high - low), -1), NOISED_EPS).sigmoid()


def attention_mask(objects: int, groups: int, queries: int, device: torch.device) -> Tensor:
    """Return (D + Q, D + Q) bool: which queries (columns) each query (rows) attends to, noised ones first.

    A group attends to itself and to the matched queries. These attend only to each other, so that noised objects leak
    nothing to them (section 3.3, as DN-DETR).

    Args:
        objects: M, so that a group has 2 M queries.
        groups, queries: G and Q.
        device: of the result.
    """
    group = torch.arange(groups, device=device).repeat_interleave(2 * objects)
    group = torch.cat((group, group.new_full((queries,), -1)))
    return (group[:, None] == group) | (group == -1)


def denoising_pairs(objects: Objects, groups: int, layers: int) -> Pairs:
    """Return each noised query's object to reconstruct: the positives of each group, the same for every layer."""
    image = torch.arange(len(objects.counts)).repeat_interleave(torch.tensor(objects.counts))
    number = torch.cat([torch.arange(count) for count in objects.counts])
    starts = torch.arange(groups) * 2 * objects.most
    layer, start, chosen = torch.cartesian_prod(torch.arange(layers), starts, torch.arange(len(image))).unbind(1)
    pairs = torch.stack((layer, image[chosen], start + number[chosen], number[chosen]))
    return Pairs(*pairs.to(objects.labels.device))
