"""Contrastive denoising: objects with noise, to be restored where it is small and refused where not (section 3.3)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.models.deformable_detr.modeling_deformable_detr import inverse_sigmoid

from foveal.tasks.detection.dino.matching import Pairs
from foveal.tasks.detection.dino.objects import Objects, to_corners

# Noised boxes are kept this far from 0 and 1, as published.
NOISED_EPS = 1e-3


@dataclass(frozen=True)
class NoisedQueries:
    """Queries of G groups, each of the M objects with little noise and then again with more: D = 2 G M in all.

    Attributes:
        content: (B, D, dim), embeddings of labels, some of them wrong; zero where an image has fewer objects.
        boxes: (B, D, 4) as (cx, cy, w, h) relative to the image.
        groups: G.
    """

    content: Tensor
    boxes: Tensor
    groups: int


class Denoising(nn.Module):
    """Makes queries of objects, by changing labels and moving boxes.

    Args:
        num_classes: classes of objects.
        dim: width of a query.
        queries: in so many groups that there are about this many of each sort, positive and negative.
        label_noise: half of it is the share of labels that are drawn anew, from all classes.
        box_noise: 1 moves a positive's corner by up to half the box's side, a negative's by half to a whole one.
    """

    def __init__(
        self, num_classes: int, dim: int, queries: int = 100, label_noise: float = 0.5, box_noise: float = 1.0
    ) -> None:
        super().__init__()
        self.queries, self.label_noise, self.box_noise = queries, label_noise, box_noise
        self.label_embedding = nn.Embedding(num_classes, dim)

    def forward(self, objects: Objects) -> NoisedQueries:
        """Noised queries, none at all (D = 0) where no image has an object.

        The embedding takes part in the graph even then, as processes that train together need it.
        """
        groups = max(self.queries // max(objects.most, 1), 1)
        labels = flip_labels(
            objects.labels.repeat(1, 2 * groups), self.label_noise, self.label_embedding.num_embeddings
        )
        present = objects.present.repeat(1, 2 * groups)
        content = self.label_embedding(labels) * present[..., None]
        boxes = move_boxes(objects.boxes.repeat(1, 2 * groups, 1), objects.most, self.box_noise)
        # What fills up stands for no object, and looks at the image's middle.
        return NoisedQueries(content, boxes.where(present[..., None], 0.5), groups)


def flip_labels(labels: Tensor, noise: float, num_classes: int) -> Tensor:
    """Labels of which a share of ``noise / 2`` is drawn anew, from all classes alike; which may leave them as they
    are."""
    chosen = torch.rand(labels.shape, device=labels.device) < noise / 2
    return torch.where(chosen, torch.randint_like(labels, num_classes), labels)


def move_boxes(boxes: Tensor, most: int, noise: float) -> Tensor:
    """Boxes (B, D, 4) with both corners moved, each coordinate by itself (equation 3 and figure 3).

    In turns of ``most``, boxes are positive and negative. A coordinate moves by ``noise * r / 2`` of the box's side,
    with |r| from 0 to 1 in positives and from 1 to 2 in negatives, to either side; corners stay in the image.
    """
    negative = torch.arange(boxes.shape[1], device=boxes.device) // max(most, 1) % 2
    size = torch.rand_like(boxes) + negative[:, None]
    sign = torch.randint_like(boxes, 2) * 2 - 1
    moved = to_corners(boxes) + sign * size * boxes[..., 2:].repeat(1, 1, 2) * (noise / 2)
    low, high = moved.clamp(0, 1).chunk(2, -1)
    return inverse_sigmoid(torch.cat(((low + high) / 2, high - low), -1), NOISED_EPS).sigmoid()


def seen_by(objects: int, groups: int, queries: int, device: torch.device) -> Tensor:
    """(D + Q, D + Q) bool, which queries (columns) each query (rows) sees; noised ones come first.

    A group sees itself and the queries that look for objects; these see each other alone, so that no noised object
    can tell them anything (section 3.3, as DN-DETR).

    Args:
        objects: M, so that a group has 2 M queries.
        groups, queries: G and Q.
        device: where it is made.
    """
    group = torch.arange(groups, device=device).repeat_interleave(2 * objects)
    group = torch.cat((group, group.new_full((queries,), -1)))
    return (group[:, None] == group) | (group == -1)


def restored(objects: Objects, groups: int, layers: int) -> Pairs:
    """Which noised query is to become which object: the positives of each group, alike for each layer."""
    sets, place = torch.arange(layers), torch.arange(groups) * 2 * objects.most
    image, number = objects.present.cpu().nonzero(as_tuple=True)
    every = torch.cartesian_prod(sets, place, torch.arange(len(image)))
    chosen = every[:, 2]
    pairs = torch.stack((every[:, 0], image[chosen], every[:, 1] + number[chosen], number[chosen]))
    return Pairs(*pairs.to(objects.labels.device))
